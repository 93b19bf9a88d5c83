-- Reads.

-- name: run_get
-- params: run
SELECT {RUN} FROM runs WHERE id = ?1

-- name: runs_all
-- params: before, states, target_agent, workflow, limit
SELECT {RUN} FROM runs WHERE (?1 IS NULL OR id < ?1) AND (?2 = '' OR instr(?2, ',' || state || ',') > 0)
  AND (?3 IS NULL OR agent = ?3) AND (?4 IS NULL OR workflow = ?4)
ORDER BY id DESC LIMIT ?5

-- name: runs_of_agent
-- params: before, states, agent, workflow, limit
SELECT {RUN} FROM runs INDEXED BY runs_agent WHERE agent = ?3 AND (?1 IS NULL OR id < ?1)
  AND (?2 = '' OR instr(?2, ',' || state || ',') > 0) AND (?4 IS NULL OR workflow = ?4)
ORDER BY id DESC LIMIT ?5

-- name: runs_of_schedule
-- params: before, states, schedule, workflow, limit
SELECT {RUN} FROM runs WHERE schedule = ?3 AND (?1 IS NULL OR id < ?1)
  AND (?2 = '' OR instr(?2, ',' || state || ',') > 0) AND (?4 IS NULL OR workflow = ?4)
ORDER BY id DESC LIMIT ?5

-- name: runs_of_parent
-- params: before, states, parent, workflow, limit
SELECT {RUN} FROM runs WHERE parent = ?3 AND (?1 IS NULL OR id < ?1)
  AND (?2 = '' OR instr(?2, ',' || state || ',') > 0) AND (?4 IS NULL OR workflow = ?4)
ORDER BY id DESC LIMIT ?5

-- name: runs_like
-- params: low, high, suffix_pattern, limit
SELECT id FROM runs WHERE (id >= ?1 AND id < ?2) OR id LIKE ?3 LIMIT ?4

-- name: steps_of
-- params: run, after, limit
SELECT seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
FROM steps WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3

-- name: steps_last
-- params: run, limit
SELECT seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
FROM steps WHERE run = ?1 ORDER BY seq DESC LIMIT ?2

-- name: waits_of
-- params: run
SELECT pos, kind, name, wake_at, data FROM waits WHERE run = ?1 ORDER BY pos

-- name: effects_of
-- params: run, states
SELECT run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at, result FROM effects
WHERE run = ?1 AND (?2 = '' OR instr(?2, ',' || state || ',') > 0) ORDER BY intent_at

-- name: effects_unsettled
-- params: states
SELECT run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at, result FROM effects
WHERE state IN ('open', 'in_doubt') AND instr(?1, ',' || state || ',') > 0 ORDER BY intent_at

-- CROSS JOIN: few effects are unsettled, and an agent has many runs.
-- name: effects_of_agent
-- params: agent, states
SELECT e.run, e.pos, e.name, e.doubt, e.key, e.state, e.hash, e.request, e.intent_at, e.deadline_at, e.result
FROM effects e CROSS JOIN runs r ON r.id = e.run
WHERE e.state IN ('open', 'in_doubt') AND instr(?2, ',' || e.state || ',') > 0 AND r.agent = ?1 ORDER BY e.intent_at

-- name: signals_of
-- params: run
SELECT id, run, name, payload, at FROM signals WHERE run = ?1 AND consumed = 0 ORDER BY n

-- name: children_done
-- params: run
SELECT {RUN} FROM runs WHERE id IN (SELECT name FROM waits WHERE run = ?1 AND kind = 'child')
  AND continued_to IS NULL AND state IN ('completed', 'failed', 'cancelled', 'discarded')

-- name: stream_count
-- params: run
SELECT coalesce(max(idx) + 1, 0) FROM stream WHERE run = ?1

-- name: stream_of
-- params: run, after, limit
SELECT idx, pos, attempt, data, at FROM stream WHERE run = ?1 AND idx > ?2 ORDER BY idx LIMIT ?3

-- name: run_counts
-- params:
SELECT target, state, count(*) FROM runs GROUP BY state, target

-- What could begin, and what is worked on; a thousand is as good as more.
-- name: targets_to_do
-- params:
SELECT target,
  (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 'available' AND r.slot = 1 AND r.crashes = 0 AND r.target = t.target LIMIT 1000) a)
  + (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 'available' AND r.slot = 1 AND r.crashes > 0 AND r.target = t.target LIMIT 1000) c),
  (SELECT count(*) FROM (SELECT 1 FROM runs r WHERE r.state = 'running' AND r.target = t.target LIMIT 1000) b)
FROM (SELECT DISTINCT target FROM runs WHERE state IN ('available', 'running')) t

-- name: mailbox_stats
-- params:
SELECT name, concurrency, key_concurrency, depth, rate, burst, paused,
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled')),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND slot = 1),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND state = 'parked'),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND state = 'discarded'),
  (SELECT min(created_at) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled'))
FROM mailboxes m ORDER BY name
