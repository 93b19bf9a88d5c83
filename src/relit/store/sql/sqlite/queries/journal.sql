-- A claimed run's writes.

-- The fence and the insert are one statement: nothing is written for an older claim.
-- name: step_add
-- params: run, epoch, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
INSERT INTO steps (run, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts)
SELECT ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM runs WHERE id = ?1 AND epoch = ?2 AND state = 'running'
RETURNING seq

-- name: wait_settle
-- params: run, pos
DELETE FROM waits WHERE run = ?1 AND pos = ?2

-- name: effect_settle
-- params: run, pos, state, result
UPDATE effects SET state = ?3, result = ?4 WHERE run = ?1 AND pos = ?2

-- name: signal_consume
-- params: id
UPDATE signals SET consumed = 1 WHERE id = ?1

-- The fence as a row: locked on PostgreSQL until the commit.
-- name: run_hold
-- params: run, epoch
SELECT id, agent, request FROM runs WHERE id = ?1 AND epoch = ?2 AND state = 'running'

-- name: effect_add
-- params: run, pos, name, doubt, key, hash, request, intent_at, deadline_at
INSERT INTO effects (run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at)
VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6, ?7, ?8, ?9)
ON CONFLICT (run, pos) DO UPDATE SET state = 'open', intent_at = excluded.intent_at, deadline_at = excluded.deadline_at

-- name: effect_doubt
-- params: run, pos
UPDATE effects SET state = 'in_doubt' WHERE run = ?1 AND pos = ?2 AND state = 'open' RETURNING name

-- name: stream_add
-- params: run, idx, pos, attempt, data, at
INSERT INTO stream (run, idx, pos, attempt, data, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING

-- The first moment stands, except for retries: each has a moment of its own.
-- name: wait_put
-- params: run, pos, kind, name, wake_at, data
INSERT INTO waits (run, pos, kind, name, wake_at, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (run, pos) DO UPDATE SET data = excluded.data, kind = excluded.kind, name = excluded.name,
  wake_at = CASE WHEN excluded.kind = 'retry' THEN excluded.wake_at ELSE waits.wake_at END

-- A child that went on as another run counts too: its parent asks again, for that one.
-- name: wait_ready
-- params: run, now
SELECT w.pos FROM waits w WHERE w.run = ?1 AND (
  w.wake_at <= ?2
  OR (w.kind = 'signal' AND EXISTS (SELECT 1 FROM signals s WHERE s.run = ?1 AND s.name = w.name AND s.consumed = 0))
  OR (w.kind = 'child' AND EXISTS (SELECT 1 FROM runs c WHERE c.id = w.name
        AND c.state IN ('completed', 'failed', 'cancelled', 'discarded'))))
LIMIT 1

-- name: run_wait
-- params: run, reason
UPDATE runs SET state = 'waiting', worker = NULL, reason = ?2, crashes = 0, taken_over = NULL, beat = NULL, beat_at = NULL,
  wake_at = (SELECT min(wake_at) FROM waits WHERE run = ?1)
WHERE id = ?1 RETURNING wake_at, deadline_at

-- name: run_finish
-- params: run, epoch, state, reason, output, error, failed_pos, wake_at, final, now, continued_to, next_attempt
UPDATE runs SET state = ?3, reason = ?4, output = ?5, error = ?6, failed_pos = ?7, wake_at = ?8, worker = NULL,
  slot = (mailbox IS NULL AND ?9 = 0), crashes = 0, request = NULL, taken_over = NULL, beat = NULL, beat_at = NULL,
  finished_at = CASE WHEN ?9 THEN ?10 END, continued_to = ?11, attempt = attempt + ?12
WHERE id = ?1 AND epoch = ?2 AND state = 'running'
RETURNING agent, mailbox, parent, attempt

-- Kept under its number, which whoever follows the run has seen; replays pass it over.
-- name: step_forget
-- params: run, pos
UPDATE steps SET kind = 'forgotten', pos = '~' || seq WHERE run = ?1 AND pos = ?2 AND error IS NOT NULL

-- name: wait_clear
-- params: run
DELETE FROM waits WHERE run = ?1

-- The child's parent goes on.
-- name: parent_wake
-- params: parent, child
UPDATE runs SET state = 'available', wake_at = NULL
WHERE id = ?1 AND state = 'waiting' AND EXISTS (SELECT 1 FROM waits WHERE run = ?1 AND kind = 'child' AND name = ?2)
RETURNING id

-- name: parent_repoint
-- params: parent, child, next
UPDATE waits SET name = ?3 WHERE run = ?1 AND kind = 'child' AND name = ?2

-- name: signal_move
-- params: from, to
UPDATE signals SET run = ?2 WHERE run = ?1 AND consumed = 0

-- name: children_open
-- params: parent
SELECT id FROM runs WHERE parent = ?1 AND state IN ('available', 'scheduled', 'running', 'waiting', 'parked')

-- Children that a retried run asks for again: those whose end it has not recorded.
-- name: children_to_retry
-- params: parent
SELECT id FROM runs c WHERE parent = ?1 AND state IN ('failed', 'cancelled', 'discarded')
  AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run = ?1 AND s.pos = c.parent_pos)

-- name: run_release
-- params: run, epoch
UPDATE runs SET state = 'available', worker = NULL WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING id

-- name: run_beat
-- params: run, epoch, detail, now
UPDATE runs SET beat = ?3, beat_at = ?4 WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING id
