-- Incidents and alerts.

-- No row back: it is known.
-- name: incident_add
-- params: id, agent, instance, opened_at, resolved_at, severity, rung, cause_group, title, rev, seen_at, updated_at, document
INSERT INTO incidents (id, agent, instance, opened_at, resolved_at, severity, rung, cause_group, title, rev, seen_at, updated_at, document)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT DO NOTHING RETURNING id

-- Locked: whether a report is newer is decided by what is there.
-- name: incident_lock
-- params: id
SELECT {INCIDENT} FROM incidents WHERE id = $1 FOR NO KEY UPDATE

-- name: incident_set
-- params: id, resolved_at, severity, rung, cause_group, title, rev, document, updated_at
UPDATE incidents SET resolved_at = $2, severity = $3, rung = $4, cause_group = $5, title = $6, rev = $7, document = $8,
  updated_at = $9
WHERE id = $1

-- name: incident_get
-- params: id
SELECT {INCIDENT} FROM incidents WHERE id = $1

-- name: incidents_all
-- params: before, limit
SELECT {TROUBLE} FROM incidents
WHERE $1::text IS NULL OR (opened_at, id) < (SELECT opened_at, id FROM incidents WHERE id = $1)
ORDER BY opened_at DESC, id DESC LIMIT $2

-- name: incidents_open
-- params: before, limit
SELECT {TROUBLE} FROM incidents
WHERE resolved_at IS NULL AND ($1::text IS NULL OR (opened_at, id) < (SELECT opened_at, id FROM incidents WHERE id = $1))
ORDER BY opened_at DESC, id DESC LIMIT $2

-- name: incidents_of_agent
-- params: before, limit, agent, open_only
SELECT {TROUBLE} FROM incidents
WHERE agent = $3 AND ($4::integer = 0 OR resolved_at IS NULL)
  AND ($1::text IS NULL OR (opened_at, id) < (SELECT opened_at, id FROM incidents WHERE id = $1))
ORDER BY opened_at DESC, id DESC LIMIT $2

-- name: incidents_like
-- params: low, high, suffix_pattern, limit
SELECT id FROM incidents WHERE (id >= $1 AND id < $2) OR id LIKE $3 LIMIT $4

-- No row back: somebody else made the same decision.
-- name: alert_add
-- params: id, channel, kind, incident, members, severity, state, made_at, tries, retry_at, sent_at, why, closed
INSERT INTO alerts (id, channel, kind, incident, members, severity, state, made_at, tries, retry_at, sent_at, why, closed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT DO NOTHING RETURNING id

-- No row back: it is not as it was, another process has it.
-- name: alert_move
-- params: id, state_before, tries_before, retry_before, members, severity, state, tries, retry_at, sent_at, why
UPDATE alerts SET members = $5, severity = $6, state = $7, tries = $8, retry_at = $9, sent_at = $10, why = $11
WHERE id = $1 AND state = $2 AND tries = $3 AND retry_at IS NOT DISTINCT FROM $4 AND closed = 0
RETURNING id

-- name: alert_close
-- params: incident, channel
UPDATE alerts SET closed = 1 WHERE incident = $1 AND channel = $2 AND closed = 0

-- name: alerts_live
-- params:
SELECT {ALERT} FROM alerts WHERE closed = 0 ORDER BY made_at, id

-- An incident that is open stays, however old it is.
-- name: forget_incidents
-- params: before
DELETE FROM incidents WHERE resolved_at < $1

-- name: forget_alerts
-- params: before
DELETE FROM alerts WHERE made_at < $1 AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.id = alerts.incident)
