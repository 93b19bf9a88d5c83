-- PostgreSQL's statements: the names and parameters of SQLite's, in the same order.
--
-- `{rows a text, b bigint}` stands for the CTE b(a, b, i): the batch's rows as arrays, numbered from 1, so that one
-- execution does a whole batch; its result begins with the row's index from 0. A statement without it is executed
-- for each row. {RUN} means the columns of relit.store.sql.rows.RUN, in that order.
--
-- The isolation level is READ COMMITTED. A statement sees what was committed when it began, so what must not change
-- between a look and a write is locked by an earlier statement: the folder session holds those.

-- The queue: mailboxes, places, claims.

-- ============================================================== queue

-- A mailbox that nobody configured gets the defaults.
-- name: mailbox_ensure
-- params: name, tokens, now
WITH {rows b_name text, b_tokens float8, b_now bigint}
INSERT INTO mailboxes (name, concurrency, depth, burst, tokens, refilled_at)
SELECT b_name, 1, 1000, 1, b_tokens, b_now FROM b ORDER BY b_name
ON CONFLICT DO NOTHING

-- Everything that admission decides by. Its rows are locked beforehand (hold_mailboxes): counts taken in the locking
-- statement itself could be older than the lock.
-- name: mailbox_lock
-- params: name
WITH {rows b_name text}
SELECT b.i - 1, name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at,
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled')),
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND slot = 1)
FROM b JOIN mailboxes m ON name = b_name ORDER BY b.i

-- name: mailbox_put
-- params: name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at
INSERT INTO mailboxes (name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
  depth = excluded.depth, rate = excluded.rate, burst = excluded.burst,
  tokens = least(mailboxes.tokens, excluded.burst)

-- name: mailbox_pause
-- params: name, paused
UPDATE mailboxes SET paused = $2 WHERE name = $1 RETURNING name

-- Places given to runs that have not started are taken back.
-- name: mailbox_unplace
-- params: name
UPDATE runs SET slot = 0 WHERE mailbox = $1 AND slot = 1 AND state = 'available' AND started_at IS NULL

-- name: mailbox_spend
-- params: name, tokens, refilled_at, admit_at
UPDATE mailboxes SET tokens = $2, refilled_at = $3, admit_at = $4 WHERE name = $1

-- The next runs of a mailbox get a place, best rank first, at most $3 at once for each key.
-- name: run_admit
-- params: mailbox, limit, key_concurrency, now
UPDATE runs SET slot = 1 WHERE id IN (
  SELECT id FROM runs r
  WHERE mailbox = $1 AND slot = 0 AND state = 'available' AND (expires_at IS NULL OR expires_at > $4)
    AND ($3::bigint IS NULL OR key IS NULL
         OR (SELECT count(*) FROM runs p WHERE p.mailbox = $1 AND p.slot = 1 AND p.key = r.key) < $3::bigint)
  ORDER BY rank, id LIMIT $2)
RETURNING id

-- name: mailbox_waiting
-- params: mailbox
SELECT 1 FROM runs WHERE mailbox = $1 AND slot = 0 AND state = 'available' LIMIT 1

-- name: dedup_find
-- params: scope, key, now
WITH {rows b_scope text, b_key text, b_now bigint}
SELECT b.i - 1, run FROM b JOIN dedups ON scope = b_scope AND key = b_key AND until > b_now

-- No row back: somebody else took the key first. Of equal keys in one batch the first wins.
-- name: dedup_put
-- params: scope, key, run, until, now
WITH {rows b_scope text, b_key text, b_run text, b_until bigint, b_now bigint},
first AS (SELECT DISTINCT ON (b_scope, b_key) * FROM b ORDER BY b_scope, b_key, i),
put AS (
  INSERT INTO dedups (scope, key, run, until) SELECT b_scope, b_key, b_run, b_until FROM first
  ON CONFLICT (scope, key) DO UPDATE SET run = excluded.run, until = excluded.until
    WHERE dedups.until <= (SELECT min(b_now) FROM b)
  RETURNING scope, key, run)
SELECT first.i - 1, run FROM first JOIN put ON scope = b_scope AND key = b_key

-- No row back: the id is known.
-- name: run_add
-- params: id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at, deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at
WITH {rows b_id text, b_agent text, b_workflow text, b_target text, b_kind text, b_state text, b_mailbox text,
  b_key text, b_slot smallint, b_priority integer, b_rank bigint, b_wake_at bigint, b_expires_at bigint,
  b_deadline_at bigint, b_epoch bigint, b_max_attempts integer, b_input bytea, b_parent text, b_parent_pos text,
  b_schedule text, b_created_at bigint},
made AS (
  INSERT INTO runs (id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at,
    deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at)
  SELECT b_id, b_agent, b_workflow, b_target, b_kind, b_state, b_mailbox, b_key, b_slot, b_priority, b_rank, b_wake_at,
    b_expires_at, b_deadline_at, b_epoch, b_max_attempts, b_input, b_parent, b_parent_pos, b_schedule, b_created_at
  FROM b ORDER BY b_id
  ON CONFLICT DO NOTHING
  RETURNING id)
SELECT min(b.i) - 1, id FROM b JOIN made ON id = b_id GROUP BY id ORDER BY 1

-- name: run_origin
-- params: id, forked_from
UPDATE runs SET forked_from = $2 WHERE id = $1

-- name: event_add
-- params: at, name, agent, run, data
WITH {rows b_at bigint, b_name text, b_agent text, b_run text, b_data bytea}
INSERT INTO events (at, name, agent, run, data) SELECT b_at, b_name, b_agent, b_run, b_data FROM b ORDER BY i

-- ============================================================== claim

-- Held until the commit: otherwise the worker could be reaped between this look and the claim's commit, and the run
-- would belong to a dead worker whom nobody reaps again.
-- name: worker_live
-- params: worker, lease_now, lease_boot
SELECT id FROM workers WHERE id = $1 AND state = 'live' AND lease_boot = $3 AND lease_until > $2 FOR SHARE

-- Rows that another process is just taking are passed over.
-- name: run_pick
-- params: target, limit, now
WITH {rows b_target text, b_limit bigint, b_now bigint}
SELECT b.i - 1, picked.id, picked.rank FROM b CROSS JOIN LATERAL (
  SELECT id, rank FROM runs
  WHERE target = b_target AND state = 'available' AND slot = 1 AND crashes = 0
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > b_now)
  ORDER BY rank LIMIT b_limit FOR NO KEY UPDATE SKIP LOCKED) picked

-- name: run_pick_suspect
-- params: target, limit, now
WITH {rows b_target text, b_limit bigint, b_now bigint}
SELECT b.i - 1, picked.id, picked.rank FROM b CROSS JOIN LATERAL (
  SELECT id, rank FROM runs
  WHERE target = b_target AND state = 'available' AND slot = 1 AND crashes > 0
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > b_now)
  ORDER BY rank LIMIT b_limit FOR NO KEY UPDATE SKIP LOCKED) picked

-- name: run_take
-- params: id, worker, now, timeout
WITH {rows b_id text, b_worker text, b_now bigint, b_timeout bigint},
taken AS (
  UPDATE runs SET state = 'running', worker = b_worker, epoch = epoch + 1, started_at = coalesce(started_at, b_now),
    attempt = greatest(attempt, 1), wake_at = NULL, reason = NULL,
    deadline_at = CASE WHEN started_at IS NULL THEN coalesce(deadline_at, created_at + b_timeout) ELSE deadline_at END
  FROM b WHERE id = b_id AND state = 'available' AND slot = 1
  RETURNING b.i - 1 AS i, {RUN})
SELECT * FROM taken ORDER BY i
