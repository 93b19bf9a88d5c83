-- Calls to models, what they cost, and budgets.

-- name: call_add
-- params: id, agent, run, number, route, protocol, model, gateway, state, status, why, started_at, ended_at, input, output, cached, written, estimated, cost, reserved, budgets, life, lane, key, source, saved, outline
INSERT INTO calls ({CALL}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)

-- Its place in its turn. Two at once in one turn may get one number: they are told apart by their ids.
-- name: call_number
-- params: run
SELECT COALESCE(MAX(number), 0) + 1 FROM calls WHERE run = ?1 AND run <> ''

-- name: call_end
-- params: id, state, status, why, ended_at, model, input, output, cached, written, estimated, cost
UPDATE calls SET state = ?2, status = ?3, why = ?4, ended_at = ?5, model = ?6, input = ?7,
  output = ?8, cached = ?9, written = ?10, estimated = ?11, cost = ?12
WHERE id = ?1 AND state = 'open'

-- name: call_more
-- params: id, reserved
UPDATE calls SET reserved = ?2 WHERE id = ?1 AND state = 'open'

-- Whether that life of a turn was refused for want of that money: once is enough on record.
-- name: call_refused
-- params: run, life, budgets
SELECT 1 FROM calls WHERE run = ?1 AND run <> '' AND life = ?2 AND budgets = ?3 AND state = 'refused' LIMIT 1

-- name: calls_lock
-- params: id
SELECT {CALL} FROM calls WHERE id = ?1 AND state = 'open'

-- name: call_get
-- params: id
SELECT {CALL} FROM calls WHERE id = ?1

-- name: calls_of_run
-- params: run
SELECT {CALL} FROM calls WHERE run = ?1 AND run <> '' ORDER BY number, id

-- name: calls_of_agent
-- params: agent, limit
SELECT {CALL} FROM calls WHERE agent = ?1 ORDER BY started_at DESC, id DESC LIMIT ?2

-- name: calls_open
-- params:
SELECT {CALL} FROM calls WHERE state = 'open' ORDER BY +id

-- name: budget_begin
-- params: scope, day
INSERT INTO budgets (scope, day, spent, reserved, told) VALUES (?1, ?2, 0, 0, 0) ON CONFLICT DO NOTHING

-- Locked on PostgreSQL, in order: whether there is room is decided by what is there.
-- name: budget_hold
-- params: scope, day
SELECT spent, reserved, told FROM budgets WHERE scope = ?1 AND day = ?2

-- name: budget_set
-- params: scope, day, spent, reserved, told
UPDATE budgets SET spent = ?3, reserved = ?4, told = ?5 WHERE scope = ?1 AND day = ?2

-- name: budgets_of_day
-- params: day
SELECT {SPENDING} FROM budgets WHERE day = ?1 ORDER BY scope

-- name: usage_add
-- params: day, agent, route, model, calls, failed, input, output, cached, written, cost
INSERT INTO usage ({USAGE}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (day, agent, route, model) DO UPDATE SET calls = usage.calls + excluded.calls,
  failed = usage.failed + excluded.failed, input = usage.input + excluded.input,
  output = usage.output + excluded.output, cached = usage.cached + excluded.cached,
  written = usage.written + excluded.written, cost = usage.cost + excluded.cost

-- name: usage_since
-- params: day
SELECT {USAGE} FROM usage WHERE day >= ?1 ORDER BY day, agent, route, model

-- One running turn of an agent is the one that its calls belong to. A life of it ends with each claim, and with each
-- delivery, which is a step.
-- name: turns_of
-- params: agent
SELECT id, epoch, (SELECT COALESCE(MAX(seq), 0) FROM steps WHERE run = runs.id) FROM runs WHERE state = 'running' AND finished_at IS NULL AND agent = ?1 AND mailbox IS NOT NULL ORDER BY +id LIMIT 2

-- Whether another life of the turn has made calls.
-- name: calls_lived
-- params: run, life
SELECT 1 FROM calls WHERE run = ?1 AND run <> '' AND life <> ?2 LIMIT 1

-- The first answer of an earlier life that is the same call's, and was given to no call of this one; none from where on
-- this life has gone another way in that conversation.
-- name: call_before
-- params: run, life, lane, key
SELECT {CALL} FROM calls
WHERE run = ?1 AND run <> '' AND key = ?4 AND life <> ?2 AND state = 'done'
  AND EXISTS (SELECT 1 FROM answers WHERE call = calls.id)
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2 AND o.source = calls.id)
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2 AND o.lane = ?3 AND o.state NOT IN ('replayed', 'refused'))
ORDER BY number, id LIMIT 1

-- What an earlier life asked at this place of that conversation, whatever is asked there now.
-- name: call_expected
-- params: run, life, lane
SELECT {CALL} FROM calls
WHERE run = ?1 AND run <> '' AND lane = ?3 AND life <> ?2 AND state = 'done'
  AND EXISTS (SELECT 1 FROM answers WHERE call = calls.id)
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2 AND o.source = calls.id)
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2 AND o.lane = ?3 AND o.state NOT IN ('replayed', 'refused'))
ORDER BY number, id LIMIT 1

-- What earlier lives asked in conversations that this one has not held, where no earlier one knows that of this call, and
-- this life goes live with it.
-- name: calls_beside
-- params: run, life, lane, key
SELECT {CALL} FROM calls
WHERE run = ?1 AND run <> '' AND life <> ?2 AND state = 'done'
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life <> ?2 AND (o.lane = ?3 OR o.key = ?4))
  AND NOT EXISTS (SELECT 1 FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2 AND o.state NOT IN ('replayed', 'refused'))
  AND lane NOT IN (SELECT o.lane FROM calls o WHERE o.run = ?1 AND o.run <> '' AND o.life = ?2)
  AND EXISTS (SELECT 1 FROM answers WHERE call = calls.id)
ORDER BY number, id LIMIT 8

-- name: answer_add
-- params: call, head, body, blob
INSERT INTO answers (call, head, body, blob) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING

-- name: answer_get
-- params: call
SELECT head, body, blob FROM answers WHERE call = ?1

-- name: forget_answers
-- params: before
DELETE FROM answers WHERE call IN (SELECT id FROM calls WHERE ended_at < ?1)

-- name: forget_calls
-- params: before
DELETE FROM calls WHERE ended_at < ?1
