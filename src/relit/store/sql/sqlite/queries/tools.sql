-- Calls to tools.

-- name: tool_add
-- params: id, agent, run, life, number, tool, effect, state, hash, same, seen, key, arguments, result, blob, failed, why, gateway, heard, owed, started_at, sent_at, deadline_at, ended_at, expires_at, decided_by, source
INSERT INTO tool_calls ({TOOL}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)

-- name: tool_number
-- params: run
SELECT COALESCE(MAX(number), 0) + 1 FROM tool_calls WHERE run = ?1 AND run <> ''

-- The earlier call of a turn whose result a new one gets: see ToolCalls.begin. Equal arguments come before equal meaning.
-- name: tool_before
-- params: run, agent, tool, hash, same, life, seen, relives, since
SELECT {TOOL} FROM tool_calls
WHERE run = ?1 AND run <> '' AND agent = ?2 AND tool = ?3
  AND (hash = ?4 OR same = ?5 AND same <> '')
  AND state NOT IN ('replayed', 'failed')
  AND (state IN ('held', 'approved', 'in_doubt')
    OR (heard = 2 OR life <> ?6 AND (hash <> ?4 OR seen IS NULL OR seen >= ?7))
      AND (?8 = 1 OR effect NOT IN ('read', 'natural-key') OR heard = 2 AND (state = 'open' OR (life = ?6 OR effect <> 'read') AND ended_at >= ?9))
      AND NOT EXISTS (SELECT 1 FROM tool_calls o WHERE o.source = tool_calls.id AND o.source <> '' AND o.life = ?6 AND o.heard <> 2))
ORDER BY hash = ?4 DESC, number, id LIMIT 1

-- How often that was asked for before in a turn, whatever became of it, but for what was answered from the record; and
-- when the turn's run came back from a copy of the store.
-- name: tool_before_it
-- params: run, agent, tool, hash
SELECT (SELECT count(*) FROM tool_calls WHERE run = ?1 AND agent = ?2 AND tool = ?3 AND hash = ?4 AND state <> 'replayed'),
  (SELECT recovered_at FROM runs WHERE id = ?1)

-- Whether the newest call that got its result was told that it is an earlier one's.
-- name: tool_noted
-- params: source
SELECT why FROM tool_calls WHERE source = ?1 AND source <> '' ORDER BY id DESC LIMIT 1

-- Of no turn: one that is undecided, or whose caller went away without its result, but not long ago.
-- name: tool_unheard
-- params: agent, tool, hash, since
SELECT {TOOL} FROM tool_calls
WHERE run = '' AND agent = ?1 AND tool = ?2 AND hash = ?3 AND state NOT IN ('replayed', 'failed')
  AND (state IN ('held', 'approved', 'in_doubt')
    OR heard = 2 AND (ended_at IS NULL OR ended_at >= ?4) AND (state = 'open' OR effect NOT IN ('read', 'natural-key'))
      AND NOT EXISTS (SELECT 1 FROM tool_calls o WHERE o.source = tool_calls.id AND o.source <> '' AND o.heard <> 2))
ORDER BY id LIMIT 1

-- name: tool_get
-- params: id
SELECT {TOOL} FROM tool_calls WHERE id = ?1

-- name: tool_lock
-- params: id
SELECT {TOOL} FROM tool_calls WHERE id = ?1

-- name: tool_set
-- params: id, state, result, blob, failed, why, gateway, heard, owed, sent_at, deadline_at, ended_at, expires_at, decided_by
UPDATE tool_calls SET state = ?2, result = ?3, blob = ?4, failed = ?5, why = ?6, gateway = ?7, heard = ?8, owed = ?9,
  sent_at = ?10, deadline_at = ?11, ended_at = ?12, expires_at = ?13, decided_by = ?14
WHERE id = ?1

-- name: tools_gateways
-- params:
SELECT DISTINCT gateway FROM tool_calls WHERE heard = 0 ORDER BY gateway

-- name: tools_abandon
-- params: gateway
UPDATE tool_calls SET heard = 2 WHERE gateway = ?1 AND heard = 0

-- name: tools_find
-- params: prefix, limit
SELECT id FROM tool_calls WHERE substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1 ORDER BY id LIMIT ?2

-- name: tools_in
-- params: state
SELECT {TOOL} FROM tool_calls WHERE state = ?1 AND state IN ('held', 'approved', 'open', 'in_doubt') ORDER BY id

-- name: tools_expired
-- params: now
SELECT {TOOL} FROM tool_calls WHERE state = 'held' AND expires_at <= ?1 ORDER BY id

-- name: tools_owing
-- params:
SELECT {TOOL} FROM tool_calls WHERE owed = 1 AND state IN ('denied', 'expired', 'done', 'failed') ORDER BY id

-- name: tools_of_run
-- params: run
SELECT {TOOL} FROM tool_calls WHERE run = ?1 AND run <> '' ORDER BY number, id

-- name: tools_of_agent
-- params: agent, limit
SELECT {TOOL} FROM tool_calls WHERE agent = ?1 ORDER BY started_at DESC, id DESC LIMIT ?2

-- name: forget_tools
-- params: before
DELETE FROM tool_calls WHERE ended_at < ?1

-- name: note_put
-- params: agent, name, text, at
INSERT INTO notes (agent, name, text, at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (agent, name) DO UPDATE SET text = excluded.text, at = excluded.at

-- name: note_drop
-- params: agent, name
DELETE FROM notes WHERE agent = ?1 AND name = ?2

-- name: notes_of
-- params: agent
SELECT name, text, at FROM notes WHERE agent = ?1 ORDER BY name
