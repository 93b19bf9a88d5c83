-- An agent's journal after a moment, and the way back to it.

-- name: runs_since
-- params: agent, at
SELECT {RUN} FROM runs WHERE agent = $1 AND (created_at > $2 OR finished_at IS NULL OR finished_at > $2) ORDER BY id

-- name: steps_beyond
-- params: run, seq
SELECT count(*) FROM steps WHERE run = $1 AND seq > $2 AND kind NOT IN ('forgotten', 'superseded')

-- name: effects_since
-- params: agent, at
SELECT e.run, e.pos, e.name, e.doubt, e.key, e.state, e.hash, e.request, e.intent_at, e.deadline_at, e.result
FROM effects e JOIN runs r ON r.id = e.run WHERE r.agent = $1 AND e.intent_at > $2 AND e.state IN ('done', 'kept', 'open', 'in_doubt')
ORDER BY e.intent_at

-- What was done stays done: the run finds it by name and input when it comes there again, wherever that is.
-- name: effects_keep
-- params: run, seq
UPDATE effects SET state = 'kept', pos = '~' || intent_at::text || '~' || pos WHERE run = $1 AND state = 'done'
  AND pos IN (SELECT s.pos FROM steps s WHERE s.run = $1 AND s.seq > $2 AND s.kind = 'effect')

-- name: signals_taken
-- params: run
SELECT id, name FROM signals WHERE run = $1 AND consumed = 1 ORDER BY n

-- name: signal_steps
-- params: run, seq
SELECT name FROM steps WHERE run = $1 AND seq <= $2 AND kind = 'signal' AND result IS NOT NULL

-- name: signal_return
-- params: id
UPDATE signals SET consumed = 0 WHERE id = $1

-- Kept under its number, which whoever follows the run has seen; replays pass it over.
-- name: steps_supersede
-- params: run, seq
UPDATE steps SET kind = 'superseded', pos = '~' || seq::text WHERE run = $1 AND seq > $2 AND kind NOT IN ('forgotten', 'superseded')
RETURNING seq

-- name: effect_reuse
-- params: run, pos, name, hash
UPDATE effects SET state = 'done', pos = $2 WHERE run = $1 AND state = 'kept'
  AND pos = (SELECT pos FROM effects WHERE run = $1 AND name = $3 AND hash = $4 AND state = 'kept' ORDER BY intent_at, pos LIMIT 1)

-- ============================================================== a store that came back from a copy

-- name: runs_recovered
-- params: now
UPDATE runs SET recovered_at = $1 WHERE finished_at IS NULL RETURNING id
