-- Runs from outside: signal, cancel, pause, resume, retry, fork.

-- Locked on PostgreSQL.
-- name: run_lock
-- params: run
SELECT {RUN} FROM runs WHERE id = ?1

-- No row back: this signal is known.
-- name: signal_add
-- params: id, run, name, payload, at
INSERT INTO signals (id, run, name, payload, at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING RETURNING id

-- name: signal_wake
-- params: run, name
UPDATE runs SET state = 'available', wake_at = NULL
WHERE id = ?1 AND state = 'waiting' AND EXISTS (SELECT 1 FROM waits WHERE run = ?1 AND kind = 'signal' AND name = ?2)
RETURNING id

-- name: run_request
-- params: run, request, reason
UPDATE runs SET request = ?2, reason = ?3 WHERE id = ?1 AND state = 'running'

-- A run that nobody runs changes state.
-- name: run_set
-- params: run, state, reason, slot, finished_at, error
UPDATE runs SET state = ?2, reason = ?3, slot = ?4, finished_at = ?5, error = coalesce(?6, error), wake_at = NULL,
  request = NULL, worker = NULL
WHERE id = ?1 AND state <> 'running' RETURNING id

-- name: run_revive
-- params: run, slot, attempt, afresh, rank
UPDATE runs SET state = 'available', reason = NULL, slot = ?2, attempt = ?3, rank = ?5, error = NULL, output = NULL,
  failed_pos = NULL, finished_at = NULL, wake_at = NULL, crashes = 0, request = NULL,
  expires_at = CASE WHEN ?4 THEN NULL ELSE expires_at END, deadline_at = CASE WHEN ?4 THEN NULL ELSE deadline_at END
WHERE id = ?1 AND state <> 'running' RETURNING id

-- name: effects_in_doubt
-- params: run
SELECT pos FROM effects WHERE run = ?1 AND state = 'in_doubt'

-- name: effect_get
-- params: run, pos
SELECT name, hash, state, intent_at FROM effects WHERE run = ?1 AND pos = ?2

-- name: effect_drop
-- params: run, pos
DELETE FROM effects WHERE run = ?1 AND pos = ?2

-- A person's word becomes the step's result.
-- name: step_resolve
-- params: run, pos, name, hash, result, started_at, finished_at
INSERT INTO steps (run, seq, pos, kind, name, hash, result, started_at, finished_at, attempts)
SELECT ?1, coalesce(max(seq), 0) + 1, ?2, 'effect', ?3, ?4, ?5, ?6, ?7, 1 FROM steps WHERE run = ?1

-- name: steps_copy
-- params: from, to, upto
INSERT INTO steps (run, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts)
SELECT ?2, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
FROM steps WHERE run = ?1 AND (?3 IS NULL OR seq <= ?3) ORDER BY seq
