-- SQLite's statements. Both dialects define the same names with the same parameters in the same order; here each is
-- executed once a row. RUN below means the columns of relit.store.sql.rows.RUN, in that order.

-- The queue: mailboxes, places, claims.

-- ============================================================== queue

-- A mailbox that nobody configured gets the defaults.
-- name: mailbox_ensure
-- params: name, tokens, now
INSERT INTO mailboxes (name, concurrency, depth, burst, tokens, refilled_at) VALUES (?1, 1, 1000, 1, ?2, ?3)
ON CONFLICT DO NOTHING

-- Everything that admission decides by. Locked in name order on PostgreSQL.
-- name: mailbox_lock
-- params: name
SELECT name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at,
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled')),
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND slot = 1)
FROM mailboxes m WHERE name = ?1

-- name: mailbox_put
-- params: name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at
INSERT INTO mailboxes (name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
  depth = excluded.depth, rate = excluded.rate, burst = excluded.burst, tokens = min(tokens, excluded.burst)

-- name: mailbox_pause
-- params: name, paused
UPDATE mailboxes SET paused = ?2 WHERE name = ?1 RETURNING name

-- Places given to runs that have not started are taken back.
-- name: mailbox_unplace
-- params: name
UPDATE runs SET slot = 0 WHERE mailbox = ?1 AND slot = 1 AND state = 'available' AND started_at IS NULL

-- name: mailbox_spend
-- params: name, tokens, refilled_at, admit_at
UPDATE mailboxes SET tokens = ?2, refilled_at = ?3, admit_at = ?4 WHERE name = ?1

-- The next runs of a mailbox get a place, best rank first, at most ?3 at once for each key.
-- name: run_admit
-- params: mailbox, limit, key_concurrency, now
UPDATE runs SET slot = 1 WHERE id IN (
  SELECT id FROM runs r
  WHERE mailbox = ?1 AND slot = 0 AND state = 'available' AND (expires_at IS NULL OR expires_at > ?4)
    AND (?3 IS NULL OR key IS NULL
         OR (SELECT count(*) FROM runs p WHERE p.mailbox = ?1 AND p.slot = 1 AND p.key = r.key) < ?3)
  ORDER BY rank, id LIMIT ?2)
RETURNING id

-- name: mailbox_waiting
-- params: mailbox
SELECT 1 FROM runs WHERE mailbox = ?1 AND slot = 0 AND state = 'available' LIMIT 1

-- name: dedup_find
-- params: scope, key, now
SELECT run FROM dedups WHERE scope = ?1 AND key = ?2 AND until > ?3

-- No row back: somebody else took the key first.
-- name: dedup_put
-- params: scope, key, run, until, now
INSERT INTO dedups (scope, key, run, until) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (scope, key) DO UPDATE SET run = excluded.run, until = excluded.until WHERE dedups.until <= ?5
RETURNING run

-- No row back: the id is known.
-- name: run_add
-- params: id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at, deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at
INSERT INTO runs (id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at,
  deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
ON CONFLICT DO NOTHING
RETURNING id

-- name: run_origin
-- params: id, forked_from
UPDATE runs SET forked_from = ?2 WHERE id = ?1

-- name: event_add
-- params: at, name, agent, run, data
INSERT INTO events (at, name, agent, run, data) VALUES (?1, ?2, ?3, ?4, ?5)

-- ============================================================== claim

-- name: worker_live
-- params: worker, lease_now, lease_boot
SELECT id FROM workers WHERE id = ?1 AND state = 'live' AND lease_boot = ?3 AND lease_until > ?2

-- name: run_pick
-- params: target, limit, now
SELECT id, rank FROM runs
WHERE target = ?1 AND state = 'available' AND slot = 1 AND crashes = 0 AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?3)
ORDER BY rank LIMIT ?2

-- name: run_pick_suspect
-- params: target, limit, now
SELECT id, rank FROM runs
WHERE target = ?1 AND state = 'available' AND slot = 1 AND crashes > 0 AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > ?3)
ORDER BY rank LIMIT ?2

-- name: run_take
-- params: id, worker, now, timeout
UPDATE runs SET state = 'running', worker = ?2, epoch = epoch + 1, started_at = coalesce(started_at, ?3),
  attempt = max(attempt, 1), wake_at = NULL, reason = NULL,
  deadline_at = CASE WHEN started_at IS NULL THEN coalesce(deadline_at, created_at + ?4) ELSE deadline_at END
WHERE id = ?1 AND state = 'available' AND slot = 1
RETURNING {RUN}
