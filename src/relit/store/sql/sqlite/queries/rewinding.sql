-- An agent's journal after a moment, and the way back to it.

-- name: runs_since
-- params: agent, at
SELECT {RUN} FROM runs WHERE agent = ?1 AND (created_at > ?2 OR finished_at IS NULL OR finished_at > ?2) ORDER BY id

-- A run that had ended at that moment, and was taken up again since, goes by the time of its steps.
-- name: seq_at
-- params: run, at
SELECT coalesce(max(seq), 0) FROM steps WHERE run = ?1 AND finished_at <= ?2

-- name: steps_beyond
-- params: run, seq, at
SELECT count(*) FROM steps WHERE run = ?1 AND kind NOT IN ('forgotten', 'superseded')
  AND seq > coalesce(?2, (SELECT max(seq) FROM steps WHERE run = ?1 AND finished_at <= ?3), 0)

-- name: effects_since
-- params: agent, at
SELECT e.run, e.pos, e.name, e.doubt, e.key, e.state, e.hash, e.request, e.intent_at, e.deadline_at, e.result
FROM effects e JOIN runs r ON r.id = e.run WHERE r.agent = ?1 AND e.intent_at > ?2 AND e.state IN ('done', 'kept', 'open', 'in_doubt')
ORDER BY e.intent_at

-- Kept under its number, which whoever follows the run has seen; replays pass it over.
-- name: steps_supersede
-- params: run, seq
UPDATE steps SET kind = 'superseded', pos = '~' || seq WHERE run = ?1 AND seq > ?2 AND kind NOT IN ('forgotten', 'superseded')
RETURNING seq

-- The three below come after it: what has no step at its position now came after the moment.

-- The run finds an effect by name and input when it comes there again, wherever that is. Until then it has no position.
-- name: effects_adrift
-- params: run, epoch
UPDATE effects SET state = CASE state WHEN 'done' THEN 'kept' ELSE state END, pos = pos || '@' || ?2
WHERE run = ?1 AND state IN ('done', 'open', 'in_doubt') AND pos NOT LIKE '%@%'
  AND pos NOT IN (SELECT pos FROM steps WHERE run = ?1)

-- What failed did not happen: it may be done again, or something else in its place.
-- name: effects_void
-- params: run
DELETE FROM effects WHERE run = ?1 AND state = 'failed' AND pos NOT IN (SELECT pos FROM steps WHERE run = ?1)

-- name: signal_steps
-- params: run
SELECT name, result FROM steps WHERE run = ?1 AND kind = 'signal' AND result IS NOT NULL

-- name: signals_taken
-- params: run
SELECT id, name, payload FROM signals WHERE run = ?1 AND consumed = 1 ORDER BY n

-- name: signal_return
-- params: id
UPDATE signals SET consumed = 0 WHERE id = ?1

-- Kept for whoever follows the run, which emits again what belongs to superseded steps.
-- name: stream_supersede
-- params: run, at
UPDATE stream SET pos = '~' || pos WHERE run = ?1 AND at > ?2 AND pos NOT LIKE '~%'

-- An effect that was adrift has a position again.
-- name: effect_move
-- params: run, old, new
UPDATE effects SET pos = ?3 WHERE run = ?1 AND pos = ?2

-- A person's word on one that is adrift: the run finds it when it comes there.
-- name: effect_keep
-- params: run, pos, result
UPDATE effects SET state = 'kept', result = ?3 WHERE run = ?1 AND pos = ?2

-- ============================================================== a store that came back from a copy

-- name: runs_recovered
-- params: now
UPDATE runs SET recovered_at = ?1 WHERE finished_at IS NULL RETURNING id
