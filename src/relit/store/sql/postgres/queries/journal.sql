-- A claimed run's writes.

-- The fence and the insert are one statement: nothing is written for an older claim. The rows of the batch's runs are
-- locked beforehand, in id order.
-- name: step_add
-- params: run, epoch, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
WITH {rows b_run text, b_epoch bigint, b_seq bigint, b_pos text, b_kind text, b_name text, b_hash bytea,
  b_result bytea, b_error bytea, b_started_at bigint, b_finished_at bigint, b_attempts integer},
added AS (
  INSERT INTO steps (run, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts)
  SELECT b_run, b_seq, b_pos, b_kind, b_name, b_hash, b_result, b_error, b_started_at, b_finished_at, b_attempts
  FROM b JOIN runs ON id = b_run AND epoch = b_epoch AND state = 'running' ORDER BY i
  RETURNING run, seq)
SELECT b.i - 1, seq FROM b JOIN added ON run = b_run AND seq = b_seq

-- name: wait_settle
-- params: run, pos
WITH {rows b_run text, b_pos text}
DELETE FROM waits USING b WHERE run = b_run AND pos = b_pos

-- name: effect_settle
-- params: run, pos, state, result
WITH {rows b_run text, b_pos text, b_state text, b_result bytea}
UPDATE effects SET state = b_state, result = b_result FROM b WHERE run = b_run AND pos = b_pos

-- name: signal_consume
-- params: id
WITH {rows b_id text}
UPDATE signals SET consumed = 1 FROM b WHERE id = b_id

-- The fence as a row; locked beforehand.
-- name: run_hold
-- params: run, epoch
WITH {rows b_run text, b_epoch bigint}
SELECT b.i - 1, id, agent, request FROM b JOIN runs ON id = b_run AND epoch = b_epoch AND state = 'running' ORDER BY b.i

-- name: effect_add
-- params: run, pos, name, doubt, key, hash, request, intent_at, deadline_at
WITH {rows b_run text, b_pos text, b_name text, b_doubt text, b_key text, b_hash bytea, b_request bytea,
  b_intent_at bigint, b_deadline_at bigint}
INSERT INTO effects (run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at)
SELECT DISTINCT ON (b_run, b_pos) b_run, b_pos, b_name, b_doubt, b_key, 'open', b_hash, b_request, b_intent_at,
  b_deadline_at
FROM b ORDER BY b_run, b_pos, i DESC
ON CONFLICT (run, pos) DO UPDATE SET state = 'open', intent_at = excluded.intent_at, deadline_at = excluded.deadline_at

-- name: effect_doubt
-- params: run, pos
WITH {rows b_run text, b_pos text}
UPDATE effects SET state = 'in_doubt' FROM b WHERE run = b_run AND pos = b_pos AND state = 'open'
RETURNING b.i - 1, name

-- name: stream_add
-- params: run, idx, pos, attempt, data, at
WITH {rows b_run text, b_idx bigint, b_pos text, b_attempt integer, b_data bytea, b_at bigint}
INSERT INTO stream (run, idx, pos, attempt, data, at)
SELECT b_run, b_idx, b_pos, b_attempt, b_data, b_at FROM b ORDER BY i
ON CONFLICT DO NOTHING

-- The first moment stands, except for retries: each has a moment of its own.
-- name: wait_put
-- params: run, pos, kind, name, wake_at, data
WITH {rows b_run text, b_pos text, b_kind text, b_name text, b_wake_at bigint, b_data bytea}
INSERT INTO waits (run, pos, kind, name, wake_at, data)
SELECT DISTINCT ON (b_run, b_pos) b_run, b_pos, b_kind, b_name, b_wake_at, b_data FROM b ORDER BY b_run, b_pos, i DESC
ON CONFLICT (run, pos) DO UPDATE SET data = excluded.data, kind = excluded.kind, name = excluded.name,
  wake_at = CASE WHEN excluded.kind = 'retry' THEN excluded.wake_at ELSE waits.wake_at END

-- A child that went on as another run counts too: its parent asks again, for that one.
-- name: wait_ready
-- params: run, now
WITH {rows b_run text, b_now bigint}
SELECT DISTINCT b.i - 1 FROM b JOIN waits w ON w.run = b_run WHERE (
  w.wake_at <= b_now
  OR (w.kind = 'signal' AND EXISTS (SELECT 1 FROM signals s WHERE s.run = b_run AND s.name = w.name AND s.consumed = 0))
  OR (w.kind = 'child' AND EXISTS (SELECT 1 FROM runs c WHERE c.id = w.name
        AND c.state IN ('completed', 'failed', 'cancelled', 'discarded'))))

-- name: run_wait
-- params: run, reason
WITH {rows b_run text, b_reason text}
UPDATE runs SET state = 'waiting', worker = NULL, reason = b_reason, crashes = 0, taken_over = NULL, beat = NULL,
  beat_at = NULL, wake_at = (SELECT min(w.wake_at) FROM waits w WHERE w.run = b_run)
FROM b WHERE id = b_run RETURNING b.i - 1, wake_at, deadline_at

-- name: run_finish
-- params: run, epoch, state, reason, output, error, failed_pos, wake_at, final, now, continued_to, next_attempt
WITH {rows b_run text, b_epoch bigint, b_state text, b_reason text, b_output bytea, b_error bytea, b_failed_pos text,
  b_wake_at bigint, b_final integer, b_now bigint, b_continued_to text, b_next_attempt integer}
UPDATE runs SET state = b_state, reason = b_reason, output = b_output, error = b_error, failed_pos = b_failed_pos,
  wake_at = b_wake_at, worker = NULL, slot = (mailbox IS NULL AND b_final = 0)::integer, crashes = 0, request = NULL,
  taken_over = NULL, beat = NULL, beat_at = NULL, finished_at = CASE WHEN b_final = 1 THEN b_now END,
  continued_to = b_continued_to, attempt = attempt + b_next_attempt
FROM b WHERE id = b_run AND epoch = b_epoch AND state = 'running'
RETURNING b.i - 1, agent, mailbox, parent, attempt

-- Kept under its number, which whoever follows the run has seen; replays pass it over.
-- name: step_forget
-- params: run, pos
WITH {rows b_run text, b_pos text}
UPDATE steps SET kind = 'forgotten', pos = '~' || seq::text FROM b
WHERE run = b_run AND pos = b_pos AND error IS NOT NULL

-- name: wait_clear
-- params: run
WITH {rows b_run text}
DELETE FROM waits USING b WHERE run = b_run

-- The child's parent goes on. Its row is locked beforehand: a parent about to wait is seen waiting.
-- name: parent_wake
-- params: parent, child
UPDATE runs SET state = 'available', wake_at = NULL
WHERE id = $1 AND state = 'waiting' AND EXISTS (SELECT 1 FROM waits WHERE run = $1 AND kind = 'child' AND name = $2)
RETURNING id

-- name: parent_repoint
-- params: parent, child, next
UPDATE waits SET name = $3 WHERE run = $1 AND kind = 'child' AND name = $2

-- name: signal_move
-- params: from, to
UPDATE signals SET run = $2 WHERE run = $1 AND consumed = 0

-- name: children_open
-- params: parent
SELECT id FROM runs WHERE parent = $1 AND state IN ('available', 'scheduled', 'running', 'waiting', 'parked') ORDER BY id

-- Children that a retried run asks for again: those whose end it has not recorded.
-- name: children_to_retry
-- params: parent
SELECT id FROM runs c WHERE parent = $1 AND state IN ('failed', 'cancelled', 'discarded')
  AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run = $1 AND s.pos = c.parent_pos) ORDER BY id

-- name: run_release
-- params: run, epoch
WITH {rows b_run text, b_epoch bigint}
UPDATE runs SET state = 'available', worker = NULL FROM b WHERE id = b_run AND epoch = b_epoch AND state = 'running'
RETURNING b.i - 1, id

-- Two beats of one run in a batch are both told that it is alive.
-- name: run_beat
-- params: run, epoch, detail, now
WITH {rows b_run text, b_epoch bigint, b_detail bytea, b_now bigint},
newest AS (SELECT DISTINCT ON (b_run, b_epoch) * FROM b ORDER BY b_run, b_epoch, i DESC),
beaten AS (
  UPDATE runs SET beat = b_detail, beat_at = b_now FROM newest
  WHERE id = b_run AND epoch = b_epoch AND state = 'running' RETURNING id, epoch)
SELECT b.i - 1, id FROM b JOIN beaten ON id = b_run AND epoch = b_epoch
