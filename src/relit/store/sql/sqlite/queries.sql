-- SQLite's statements. Both dialects define the same names with the same parameters in the same order; here each is
-- executed once a row. RUN below means the columns of relit.store.sql.rows.RUN, in that order.

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

-- ============================================================== a claimed run's writes

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

-- ============================================================== from outside

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

-- ============================================================== time

-- name: runs_due
-- params: now, limit
UPDATE runs SET state = 'available', wake_at = NULL, slot = CASE WHEN state = 'scheduled' THEN (mailbox IS NULL) ELSE slot END
WHERE id IN (SELECT id FROM runs WHERE wake_at <= ?1 AND state IN ('waiting', 'scheduled') ORDER BY wake_at LIMIT ?2)
RETURNING id, mailbox

-- name: runs_expired
-- params: now, limit
SELECT id FROM runs WHERE expires_at <= ?1 AND started_at IS NULL AND state IN ('available', 'scheduled') LIMIT ?2

-- name: runs_overdue
-- params: now, limit
SELECT id FROM runs WHERE deadline_at <= ?1 AND state IN ('available', 'scheduled', 'waiting', 'parked') LIMIT ?2

-- name: mailboxes_due
-- params: now
SELECT name FROM mailboxes WHERE admit_at <= ?1

-- name: next_due
-- params:
SELECT min(at) FROM (
  SELECT min(wake_at) AS at FROM runs WHERE wake_at IS NOT NULL AND state IN ('waiting', 'scheduled')
  UNION ALL SELECT min(expires_at) FROM runs WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('available', 'scheduled')
  UNION ALL SELECT min(deadline_at) FROM runs WHERE deadline_at IS NOT NULL AND state IN ('available', 'scheduled', 'waiting', 'parked')
  UNION ALL SELECT min(admit_at) FROM mailboxes WHERE admit_at IS NOT NULL)

-- ============================================================== workers

-- name: worker_add
-- params: id, host, pid, start, boot, namespace, targets, joined_at, lease_until, lease_boot
INSERT INTO workers (id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'live', ?8, ?9, ?10)
ON CONFLICT (id) DO UPDATE SET state = 'live', targets = excluded.targets, lease_until = excluded.lease_until,
  lease_boot = excluded.lease_boot

-- name: worker_renew
-- params: id, lease_until, lease_boot
UPDATE workers SET lease_until = ?2, lease_boot = ?3 WHERE id = ?1 AND state = 'live' RETURNING id

-- name: worker_lock
-- params: id
SELECT state, lease_until, lease_boot FROM workers WHERE id = ?1

-- name: worker_end
-- params: id, state
UPDATE workers SET state = ?2 WHERE id = ?1 AND state <> ?2 RETURNING id

-- name: workers_all
-- params: live_only
SELECT id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot FROM workers
WHERE state = 'live' OR NOT ?1 ORDER BY joined_at

-- name: workers_expired
-- params: lease_now, lease_boot
SELECT id FROM workers WHERE state = 'live' AND (lease_boot <> ?2 OR lease_until <= ?1)

-- name: runs_owned
-- params: worker
SELECT id, agent, mailbox, epoch, crashes, crash_seq, request, parent,
       (SELECT coalesce(max(seq), 0) FROM steps WHERE run = runs.id)
FROM runs WHERE worker = ?1 AND state = 'running'

-- The epoch grows: whatever the old worker still sends is refused.
-- name: run_recover
-- params: run, state, reason, slot, crashes, crash_seq, taken_over, finished_at
UPDATE runs SET state = ?2, reason = ?3, slot = CASE WHEN mailbox IS NULL AND ?2 = 'available' THEN 1 ELSE ?4 END,
  crashes = ?5, crash_seq = ?6, taken_over = ?7, finished_at = ?8, worker = NULL, request = NULL, epoch = epoch + 1,
  beat = NULL, beat_at = NULL
WHERE id = ?1 AND state = 'running'

-- name: runs_requested
-- params: worker
SELECT {RUN} FROM runs WHERE worker = ?1 AND state = 'running' AND request IS NOT NULL

-- ============================================================== schedules

-- name: schedule_put
-- params: name, agent, workflow, input, spec, paused, next_at, last_at
INSERT INTO schedules (name, agent, workflow, input, spec, paused, next_at, last_at, rev) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)
ON CONFLICT (name) DO UPDATE SET agent = excluded.agent, workflow = excluded.workflow, input = excluded.input,
  spec = excluded.spec, next_at = excluded.next_at, rev = schedules.rev + 1

-- name: schedule_drop
-- params: name
DELETE FROM schedules WHERE name = ?1 RETURNING name

-- name: schedules_all
-- params:
SELECT name, agent, workflow, input, spec, paused, next_at, last_at, rev FROM schedules ORDER BY name

-- No row back: somebody else moved it on.
-- name: schedule_move
-- params: name, rev, next_at, last_at
UPDATE schedules SET next_at = ?3, last_at = coalesce(?4, last_at), rev = rev + 1 WHERE name = ?1 AND rev = ?2 RETURNING rev

-- name: schedule_pause
-- params: name, paused, next_at
UPDATE schedules SET paused = ?2, next_at = ?3, rev = rev + 1 WHERE name = ?1 RETURNING name

-- name: firing_add
-- params: schedule, due_at, outcome, run, reason, at
INSERT INTO firings (schedule, due_at, outcome, run, reason, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING

-- name: firings_of
-- params: schedule, limit
SELECT schedule, due_at, outcome, run, reason, at FROM firings WHERE schedule = ?1 ORDER BY due_at DESC LIMIT ?2

-- ============================================================== reading

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

-- name: mailbox_stats
-- params:
SELECT name, concurrency, key_concurrency, depth, rate, burst, paused,
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled')),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND slot = 1),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND state = 'parked'),
  (SELECT count(*) FROM runs WHERE mailbox = m.name AND state = 'discarded'),
  (SELECT min(created_at) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled'))
FROM mailboxes m ORDER BY name

-- ============================================================== events, tokens, webhooks

-- name: events_after
-- params: after, limit, names
SELECT CAST(id AS TEXT), at, name, agent, run, data FROM events
WHERE id > CAST(?1 AS INTEGER) AND (?3 = '' OR instr(?3, ',' || name || ',') > 0) ORDER BY id LIMIT ?2

-- name: event_last
-- params:
SELECT CAST(coalesce(max(id), 0) AS TEXT) FROM events

-- name: token_put
-- params: name, hash, scopes, created_at, last_used_at
INSERT INTO tokens (name, hash, scopes, created_at, last_used_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, created_at = excluded.created_at,
  last_used_at = excluded.last_used_at

-- name: token_drop
-- params: name
DELETE FROM tokens WHERE name = ?1 RETURNING name

-- name: tokens_all
-- params:
SELECT name, hash, scopes, created_at, last_used_at FROM tokens ORDER BY name

-- name: subscriber_put
-- params: name, url, events, secret, cursor, failures, retry_at
INSERT INTO subscribers (name, url, events, secret, cursor, failures, retry_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (name) DO UPDATE SET url = excluded.url, events = excluded.events, secret = excluded.secret,
  cursor = excluded.cursor, failures = excluded.failures, retry_at = excluded.retry_at

-- No row back: it was changed, moved on or removed meanwhile.
-- name: subscriber_move
-- params: name, url, events, secret, cursor_before, failures_before, retry_before, cursor, failures, retry_at
UPDATE subscribers SET cursor = ?8, failures = ?9, retry_at = ?10
WHERE name = ?1 AND url = ?2 AND events = ?3 AND secret = ?4 AND cursor = ?5 AND failures = ?6 AND retry_at IS ?7
RETURNING name

-- name: subscriber_drop
-- params: name
DELETE FROM subscribers WHERE name = ?1 RETURNING name

-- name: subscribers_all
-- params:
SELECT name, url, events, secret, cursor, failures, retry_at FROM subscribers ORDER BY name

-- ============================================================== upkeep

-- What a run that goes on may still ask for stays: its children, and the runs that it continues.
-- name: runs_old
-- params: before, limit
SELECT id FROM runs r WHERE finished_at < ?1
  AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent AND p.finished_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.id = r.continued_to AND n.finished_at IS NULL)
ORDER BY finished_at LIMIT ?2

-- name: forget_run
-- params: run
DELETE FROM runs WHERE id = ?1

-- name: forget_steps
-- params: run
DELETE FROM steps WHERE run = ?1

-- name: forget_stream
-- params: run
DELETE FROM stream WHERE run = ?1

-- name: forget_signals
-- params: run
DELETE FROM signals WHERE run = ?1

-- name: forget_effects
-- params: run
DELETE FROM effects WHERE run = ?1

-- Small things that have had their time, whatever run they belong to.
-- name: forget_events
-- params: before
DELETE FROM events WHERE at < ?1

-- name: forget_firings
-- params: before
DELETE FROM firings WHERE at < ?1

-- name: forget_dedups
-- params: now
DELETE FROM dedups WHERE until <= ?1

-- name: forget_workers
-- params: before
DELETE FROM workers WHERE state <> 'live' AND joined_at < ?1 AND NOT EXISTS (
  SELECT 1 FROM runs WHERE worker = workers.id AND runs.state = 'running')

-- Each row is a fault: a rule that must hold at every commit.
-- name: faults
-- params:
SELECT 'run ' || id || ' is running under no known worker' FROM runs r
  WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker)
UNION ALL SELECT 'run ' || id || ' is ' || state || ' and still has a worker' FROM runs
  WHERE state <> 'running' AND worker IS NOT NULL
UNION ALL SELECT 'run ' || id || ' is ' || state || ' and still holds a place in ' || mailbox FROM runs
  WHERE mailbox IS NOT NULL AND slot = 1 AND state IN ('completed', 'failed', 'cancelled', 'discarded', 'parked')
UNION ALL SELECT 'run ' || id || ' waits for nothing' FROM runs r
  WHERE state = 'waiting' AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.id)
UNION ALL SELECT 'run ' || run || ' has two steps at position ' || pos FROM steps GROUP BY run, pos HAVING count(*) > 1
