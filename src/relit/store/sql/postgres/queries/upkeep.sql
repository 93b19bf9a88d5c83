-- Time, workers, schedules, events, tokens, webhooks, retention.

-- ============================================================== time

-- Rows that another process holds are passed over; they are due again at the next look.
-- name: runs_due
-- params: now, limit
UPDATE runs SET state = 'available', wake_at = NULL,
  slot = CASE WHEN state = 'scheduled' THEN (mailbox IS NULL)::integer ELSE slot END
WHERE id IN (SELECT id FROM runs WHERE wake_at <= $1 AND state IN ('waiting', 'scheduled')
             ORDER BY wake_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, mailbox

-- Locked as they are found, so that none is claimed before it is ended.
-- name: runs_expired
-- params: now, limit
SELECT id FROM runs WHERE expires_at <= $1 AND started_at IS NULL AND state IN ('available', 'scheduled') LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: runs_overdue
-- params: now, limit
SELECT id FROM runs WHERE deadline_at <= $1 AND state IN ('available', 'scheduled', 'waiting', 'parked') LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: mailboxes_due
-- params: now
SELECT name FROM mailboxes WHERE admit_at <= $1

-- name: next_due
-- params:
SELECT min(at) FROM (
  SELECT min(wake_at) AS at FROM runs WHERE wake_at IS NOT NULL AND state IN ('waiting', 'scheduled')
  UNION ALL SELECT min(expires_at) FROM runs WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('available', 'scheduled')
  UNION ALL SELECT min(deadline_at) FROM runs WHERE deadline_at IS NOT NULL AND state IN ('available', 'scheduled', 'waiting', 'parked')
  UNION ALL SELECT min(admit_at) FROM mailboxes WHERE admit_at IS NOT NULL) moments

-- ============================================================== workers

-- name: worker_add
-- params: id, host, pid, start, boot, namespace, targets, joined_at, lease_until, lease_boot, steady
INSERT INTO workers (id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot, steady)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'live', $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE SET state = 'live', targets = excluded.targets, lease_until = excluded.lease_until,
  lease_boot = excluded.lease_boot

-- name: worker_renew
-- params: id, lease_until, lease_boot
UPDATE workers SET lease_until = $2, lease_boot = $3 WHERE id = $1 AND state = 'live' RETURNING id

-- name: worker_lock
-- params: id
SELECT state, lease_until, lease_boot, steady FROM workers WHERE id = $1 FOR NO KEY UPDATE

-- name: worker_end
-- params: id, state
UPDATE workers SET state = $2 WHERE id = $1 AND state <> $2 RETURNING id

-- name: workers_all
-- params: live_only
SELECT id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot FROM workers
WHERE state = 'live' OR $1::integer = 0 ORDER BY joined_at

-- name: workers_expired
-- params: lease_now, lease_boot
SELECT id FROM workers WHERE state = 'live' AND (lease_boot <> $2 OR lease_until <= $1)

-- Locked: a worker thought dead may be finishing one of them at this moment.
-- name: runs_owned
-- params: worker
SELECT id, agent, mailbox, epoch, crashes, crash_seq, request, parent,
       (SELECT coalesce(max(seq), 0) FROM steps WHERE run = runs.id)
FROM runs WHERE worker = $1 AND state = 'running' ORDER BY id FOR NO KEY UPDATE

-- The epoch grows: whatever the old worker still sends is refused.
-- name: run_recover
-- params: run, state, reason, slot, crashes, crash_seq, taken_over, finished_at
UPDATE runs SET state = $2, reason = $3, slot = CASE WHEN mailbox IS NULL AND $2 = 'available' THEN 1 ELSE $4 END,
  crashes = $5, crash_seq = $6, taken_over = $7, finished_at = $8, worker = NULL, request = NULL, epoch = epoch + 1,
  beat = NULL, beat_at = NULL
WHERE id = $1 AND state = 'running'

-- name: runs_requested
-- params: worker
SELECT {RUN} FROM runs WHERE worker = $1 AND state = 'running' AND request IS NOT NULL

-- ============================================================== schedules

-- name: schedule_put
-- params: name, agent, workflow, input, spec, paused, next_at, last_at
INSERT INTO schedules (name, agent, workflow, input, spec, paused, next_at, last_at, rev)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1)
ON CONFLICT (name) DO UPDATE SET agent = excluded.agent, workflow = excluded.workflow, input = excluded.input,
  spec = excluded.spec, next_at = excluded.next_at, rev = schedules.rev + 1

-- name: schedule_drop
-- params: name
DELETE FROM schedules WHERE name = $1 RETURNING name

-- name: schedules_all
-- params:
SELECT name, agent, workflow, input, spec, paused, next_at, last_at, rev FROM schedules ORDER BY name

-- No row back: somebody else moved it on.
-- name: schedule_move
-- params: name, rev, next_at, last_at
UPDATE schedules SET next_at = $3, last_at = coalesce($4, last_at), rev = rev + 1 WHERE name = $1 AND rev = $2 RETURNING rev

-- name: schedule_pause
-- params: name, paused, next_at
UPDATE schedules SET paused = $2, next_at = $3, rev = rev + 1 WHERE name = $1 RETURNING name

-- name: firing_add
-- params: schedule, due_at, outcome, run, reason, at
WITH {rows b_schedule text, b_due_at bigint, b_outcome text, b_run text, b_reason text, b_at bigint}
INSERT INTO firings (schedule, due_at, outcome, run, reason, at)
SELECT b_schedule, b_due_at, b_outcome, b_run, b_reason, b_at FROM b
ON CONFLICT DO NOTHING

-- name: firings_of
-- params: schedule, limit
SELECT schedule, due_at, outcome, run, reason, at FROM firings WHERE schedule = $1 ORDER BY due_at DESC LIMIT $2

-- ============================================================== events, tokens, webhooks

-- An id is XID-N. Only transactions older than every open one are shown; see the table's comment.
-- name: events_after
-- params: after, limit, names
SELECT xid::text || '-' || n::text, at, name, agent, run, data FROM events
WHERE (xid, n) > (split_part($1, '-', 1)::xid8, ('0' || split_part($1, '-', 2))::bigint)
  AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND ($3 = '' OR strpos($3, ',' || name || ',') > 0)
ORDER BY events.xid, events.n LIMIT $2

-- name: event_last
-- params:
SELECT coalesce((SELECT xid::text || '-' || n::text FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
                 ORDER BY xid DESC, n DESC LIMIT 1), '0')

-- name: token_put
-- params: name, hash, scopes, created_at, last_used_at
INSERT INTO tokens (name, hash, scopes, created_at, last_used_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, created_at = excluded.created_at,
  last_used_at = excluded.last_used_at

-- name: token_drop
-- params: name
DELETE FROM tokens WHERE name = $1 RETURNING name

-- name: tokens_all
-- params:
SELECT name, hash, scopes, created_at, last_used_at FROM tokens ORDER BY name

-- name: subscriber_put
-- params: name, url, events, secret, cursor, failures, retry_at
INSERT INTO subscribers (name, url, events, secret, cursor, failures, retry_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE SET url = excluded.url, events = excluded.events, secret = excluded.secret,
  cursor = excluded.cursor, failures = excluded.failures, retry_at = excluded.retry_at

-- No row back: it was changed, moved on or removed meanwhile.
-- name: subscriber_move
-- params: name, url, events, secret, cursor_before, failures_before, retry_before, cursor, failures, retry_at
UPDATE subscribers SET cursor = $8, failures = $9, retry_at = $10
WHERE name = $1 AND url = $2 AND events = $3 AND secret = $4 AND cursor = $5 AND failures = $6
  AND retry_at IS NOT DISTINCT FROM $7
RETURNING name

-- name: subscriber_drop
-- params: name
DELETE FROM subscribers WHERE name = $1 RETURNING name

-- name: subscribers_all
-- params:
SELECT name, url, events, secret, cursor, failures, retry_at FROM subscribers ORDER BY name

-- ============================================================== upkeep

-- What a run that goes on may still ask for stays: its children, and the runs that it continues.
-- name: runs_old
-- params: before, limit
SELECT id FROM runs r WHERE finished_at < $1
  AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent AND p.finished_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.id = r.continued_to AND n.finished_at IS NULL)
ORDER BY finished_at LIMIT $2 FOR UPDATE OF r SKIP LOCKED

-- name: forget_run
-- params: run
WITH {rows b_run text}
DELETE FROM runs USING b WHERE id = b_run

-- name: forget_steps
-- params: run
WITH {rows b_run text}
DELETE FROM steps USING b WHERE run = b_run

-- name: forget_stream
-- params: run
WITH {rows b_run text}
DELETE FROM stream USING b WHERE run = b_run

-- name: forget_signals
-- params: run
WITH {rows b_run text}
DELETE FROM signals USING b WHERE run = b_run

-- name: forget_effects
-- params: run
WITH {rows b_run text}
DELETE FROM effects USING b WHERE run = b_run

-- Small things that have had their time, whatever run they belong to.
-- name: forget_events
-- params: before
DELETE FROM events WHERE at < $1

-- name: forget_firings
-- params: before
DELETE FROM firings WHERE at < $1

-- name: forget_dedups
-- params: now
DELETE FROM dedups WHERE until <= $1

-- name: forget_workers
-- params: before
DELETE FROM workers WHERE state <> 'live' AND joined_at < $1 AND NOT EXISTS (
  SELECT 1 FROM runs WHERE worker = workers.id AND runs.state = 'running')

-- Each row is a fault: a rule that must hold at every commit.
-- name: faults
-- params:
SELECT 'run ' || id || ' is running under no known worker' FROM runs r
  WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker)
UNION ALL SELECT 'run ' || id || ' is ' || state || ' and still has a worker' FROM runs
  WHERE state <> 'running' AND worker IS NOT NULL
UNION ALL SELECT 'run ' || id || ' is ' || state || ' and still holds a place in ' || mailbox FROM runs
  WHERE mailbox IS NOT NULL AND slot = 1 AND state IN ('completed', 'failed', 'cancelled', 'discarded', 'parked')
UNION ALL SELECT 'run ' || id || ' waits for nothing' FROM runs r
  WHERE state = 'waiting' AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.id)
UNION ALL SELECT 'run ' || run || ' has two steps at position ' || pos FROM steps GROUP BY run, pos HAVING count(*) > 1

-- What was learnt from more starts holds.
-- name: footprint_put
-- params: what, peak, settled, cpu_s, seen
INSERT INTO footprints (what, peak, settled, cpu_s, seen) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (what) DO UPDATE SET peak = excluded.peak, settled = excluded.settled, cpu_s = excluded.cpu_s,
  seen = excluded.seen
WHERE excluded.seen >= footprints.seen

-- name: footprints_all
-- params:
SELECT what, peak, settled, cpu_s, seen FROM footprints ORDER BY what
