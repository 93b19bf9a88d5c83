-- Statements that only PostgreSQL needs: what brackets a batch of operations.

-- The first statement of every batch: its number, the clock, and the rows of the runs that it writes under a fence,
-- locked in id order, the same for every process, so that batches queue up instead of deadlocking. The epochs are
-- checked by later statements, which see what was committed before the lock was had.
-- name: batch_open
-- params: writer, n, runs
WITH clock AS MATERIALIZED (SELECT relit_now() AS now),
mark AS (
  INSERT INTO commits (writer, n, at) SELECT $1, $2, now FROM clock
  ON CONFLICT (writer) DO UPDATE SET n = excluded.n, at = excluded.at),
held AS MATERIALIZED (SELECT id FROM runs WHERE id = ANY($3::text[]) ORDER BY id FOR NO KEY UPDATE)
SELECT now, (SELECT count(*) FROM held) FROM clock

-- The mailboxes that a batch puts runs into, and those of runs that may leave them: locked in name order.
-- name: batch_mailboxes
-- params: ending runs, mailboxes
SELECT name FROM mailboxes
WHERE name = ANY($2::text[] || ARRAY(SELECT mailbox FROM runs WHERE id = ANY($1::text[]) AND mailbox IS NOT NULL))
ORDER BY name FOR NO KEY UPDATE

-- The row of this writer, made when it connects: it is there to be locked, and whoever is just making it is waited for.
-- name: writer_add
-- params: writer
INSERT INTO commits (writer, n, at) VALUES ($1, 0, relit_now()) ON CONFLICT DO NOTHING

-- Did the batch whose COMMIT got no answer take place? The lock waits for the old connection's transaction to end.
-- name: writer_last
-- params: writer
SELECT n FROM commits WHERE writer = $1 FOR UPDATE

-- Writers that have gone.
-- name: writers_forget
-- params: max_age_ms
DELETE FROM commits WHERE at < relit_now() - $1::bigint

-- name: hold_mailboxes
-- params: name
WITH {rows b_name text}
SELECT 1 FROM mailboxes JOIN b ON name = b_name ORDER BY name FOR NO KEY UPDATE OF mailboxes

-- name: hold_runs
-- params: run
WITH {rows b_run text}
SELECT 1 FROM runs JOIN b ON id = b_run ORDER BY id FOR NO KEY UPDATE OF runs

-- name: clock
-- params:
SELECT relit_now()

-- Are there events that readers may not see yet?
-- name: events_pending
-- params:
SELECT EXISTS (SELECT 1 FROM events WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()))

-- Indexes that an interrupted repair left unusable.
-- name: broken_indexes
-- params:
SELECT 'index ' || indexrelid::regclass::text || ' is not valid' FROM pg_index
WHERE NOT indisvalid AND indrelid::regclass::text IN ('runs', 'steps', 'waits', 'signals', 'effects', 'stream')

-- name: schema_tables
-- params: schema
SELECT count(*), count(*) FILTER (WHERE tablename = 'meta') FROM pg_tables WHERE schemaname = $1
