-- PostgreSQL's statements: the names and parameters of SQLite's, in the same order.
--
-- `{rows a text, b bigint}` stands for the CTE b(a, b, i): the batch's rows as arrays, numbered from 1, so that one
-- execution does a whole batch; its result begins with the row's index from 0. A statement without it is executed
-- for each row. {RUN} means the columns of relit.store.sql.rows.RUN, in that order.
--
-- The isolation level is READ COMMITTED. A statement sees what was committed when it began, so what must not change
-- between a look and a write is locked by an earlier statement: session.sql holds those.

-- ============================================================== queue

-- A mailbox that nobody configured gets the defaults.
-- name: mailbox_ensure
-- params: name, tokens, now
WITH {rows b_name text, b_tokens float8, b_now bigint}
INSERT INTO mailboxes (name, concurrency, depth, burst, tokens, refilled_at)
SELECT b_name, 1, 1000, 1, b_tokens, b_now FROM b ORDER BY b_name
ON CONFLICT DO NOTHING

-- Everything that admission decides by. Its rows are locked beforehand (hold_mailboxes): counts taken in the locking
-- statement itself could be older than the lock.
-- name: mailbox_lock
-- params: name
WITH {rows b_name text}
SELECT b.i - 1, name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at,
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND started_at IS NULL AND state IN ('available', 'scheduled')),
       (SELECT count(*) FROM runs WHERE mailbox = m.name AND slot = 1)
FROM b JOIN mailboxes m ON name = b_name ORDER BY b.i

-- name: mailbox_put
-- params: name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at
INSERT INTO mailboxes (name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
  depth = excluded.depth, rate = excluded.rate, burst = excluded.burst,
  tokens = least(mailboxes.tokens, excluded.burst)

-- name: mailbox_pause
-- params: name, paused
UPDATE mailboxes SET paused = $2 WHERE name = $1 RETURNING name

-- Places given to runs that have not started are taken back.
-- name: mailbox_unplace
-- params: name
UPDATE runs SET slot = 0 WHERE mailbox = $1 AND slot = 1 AND state = 'available' AND started_at IS NULL

-- name: mailbox_spend
-- params: name, tokens, refilled_at, admit_at
UPDATE mailboxes SET tokens = $2, refilled_at = $3, admit_at = $4 WHERE name = $1

-- The next runs of a mailbox get a place, best rank first, at most $3 at once for each key.
-- name: run_admit
-- params: mailbox, limit, key_concurrency, now
UPDATE runs SET slot = 1 WHERE id IN (
  SELECT id FROM runs r
  WHERE mailbox = $1 AND slot = 0 AND state = 'available' AND (expires_at IS NULL OR expires_at > $4)
    AND ($3::bigint IS NULL OR key IS NULL
         OR (SELECT count(*) FROM runs p WHERE p.mailbox = $1 AND p.slot = 1 AND p.key = r.key) < $3::bigint)
  ORDER BY rank, id LIMIT $2)
RETURNING id

-- name: mailbox_waiting
-- params: mailbox
SELECT 1 FROM runs WHERE mailbox = $1 AND slot = 0 AND state = 'available' LIMIT 1

-- name: dedup_find
-- params: scope, key, now
WITH {rows b_scope text, b_key text, b_now bigint}
SELECT b.i - 1, run FROM b JOIN dedups ON scope = b_scope AND key = b_key AND until > b_now

-- No row back: somebody else took the key first. Of equal keys in one batch the first wins.
-- name: dedup_put
-- params: scope, key, run, until, now
WITH {rows b_scope text, b_key text, b_run text, b_until bigint, b_now bigint},
first AS (SELECT DISTINCT ON (b_scope, b_key) * FROM b ORDER BY b_scope, b_key, i),
put AS (
  INSERT INTO dedups (scope, key, run, until) SELECT b_scope, b_key, b_run, b_until FROM first
  ON CONFLICT (scope, key) DO UPDATE SET run = excluded.run, until = excluded.until
    WHERE dedups.until <= (SELECT min(b_now) FROM b)
  RETURNING scope, key, run)
SELECT first.i - 1, run FROM first JOIN put ON scope = b_scope AND key = b_key

-- No row back: the id is known.
-- name: run_add
-- params: id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at, deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at
WITH {rows b_id text, b_agent text, b_workflow text, b_target text, b_kind text, b_state text, b_mailbox text,
  b_key text, b_slot smallint, b_priority integer, b_rank bigint, b_wake_at bigint, b_expires_at bigint,
  b_deadline_at bigint, b_epoch bigint, b_max_attempts integer, b_input bytea, b_parent text, b_parent_pos text,
  b_schedule text, b_created_at bigint},
made AS (
  INSERT INTO runs (id, agent, workflow, target, kind, state, mailbox, key, slot, priority, rank, wake_at, expires_at,
    deadline_at, epoch, max_attempts, input, parent, parent_pos, schedule, created_at)
  SELECT b_id, b_agent, b_workflow, b_target, b_kind, b_state, b_mailbox, b_key, b_slot, b_priority, b_rank, b_wake_at,
    b_expires_at, b_deadline_at, b_epoch, b_max_attempts, b_input, b_parent, b_parent_pos, b_schedule, b_created_at
  FROM b ORDER BY b_id
  ON CONFLICT DO NOTHING
  RETURNING id)
SELECT min(b.i) - 1, id FROM b JOIN made ON id = b_id GROUP BY id ORDER BY 1

-- name: run_origin
-- params: id, forked_from
UPDATE runs SET forked_from = $2 WHERE id = $1

-- name: event_add
-- params: at, name, agent, run, data
WITH {rows b_at bigint, b_name text, b_agent text, b_run text, b_data bytea}
INSERT INTO events (at, name, agent, run, data) SELECT b_at, b_name, b_agent, b_run, b_data FROM b ORDER BY i

-- ============================================================== claim

-- Held until the commit: otherwise the worker could be reaped between this look and the claim's commit, and the run
-- would belong to a dead worker whom nobody reaps again.
-- name: worker_live
-- params: worker, lease_now, lease_boot
SELECT id FROM workers WHERE id = $1 AND state = 'live' AND lease_boot = $3 AND lease_until > $2 FOR SHARE

-- Rows that another process is just taking are passed over.
-- name: run_pick
-- params: target, limit, now
WITH {rows b_target text, b_limit bigint, b_now bigint}
SELECT b.i - 1, picked.id, picked.rank FROM b CROSS JOIN LATERAL (
  SELECT id, rank FROM runs
  WHERE target = b_target AND state = 'available' AND slot = 1 AND crashes = 0
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > b_now)
  ORDER BY rank LIMIT b_limit FOR NO KEY UPDATE SKIP LOCKED) picked

-- name: run_pick_suspect
-- params: target, limit, now
WITH {rows b_target text, b_limit bigint, b_now bigint}
SELECT b.i - 1, picked.id, picked.rank FROM b CROSS JOIN LATERAL (
  SELECT id, rank FROM runs
  WHERE target = b_target AND state = 'available' AND slot = 1 AND crashes > 0
    AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > b_now)
  ORDER BY rank LIMIT b_limit FOR NO KEY UPDATE SKIP LOCKED) picked

-- name: run_take
-- params: id, worker, now, timeout
WITH {rows b_id text, b_worker text, b_now bigint, b_timeout bigint},
taken AS (
  UPDATE runs SET state = 'running', worker = b_worker, epoch = epoch + 1, started_at = coalesce(started_at, b_now),
    attempt = greatest(attempt, 1), wake_at = NULL, reason = NULL,
    deadline_at = CASE WHEN started_at IS NULL THEN coalesce(deadline_at, created_at + b_timeout) ELSE deadline_at END
  FROM b WHERE id = b_id AND state = 'available' AND slot = 1
  RETURNING b.i - 1 AS i, {RUN})
SELECT * FROM taken ORDER BY i

-- ============================================================== a claimed run's writes

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

-- ============================================================== from outside

-- name: run_lock
-- params: run
WITH {rows b_run text}
SELECT b.i - 1, {RUN} FROM b JOIN runs ON id = b_run ORDER BY id FOR NO KEY UPDATE OF runs

-- No row back: this signal is known.
-- name: signal_add
-- params: id, run, name, payload, at
INSERT INTO signals (id, run, name, payload, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id

-- name: signal_wake
-- params: run, name
UPDATE runs SET state = 'available', wake_at = NULL
WHERE id = $1 AND state = 'waiting' AND EXISTS (SELECT 1 FROM waits WHERE run = $1 AND kind = 'signal' AND name = $2)
RETURNING id

-- name: run_request
-- params: run, request, reason
UPDATE runs SET request = $2, reason = $3 WHERE id = $1 AND state = 'running'

-- A run that nobody runs changes state.
-- name: run_set
-- params: run, state, reason, slot, finished_at, error
UPDATE runs SET state = $2, reason = $3, slot = $4, finished_at = $5, error = coalesce($6, error), wake_at = NULL,
  request = NULL, worker = NULL
WHERE id = $1 AND state <> 'running' RETURNING id

-- name: run_revive
-- params: run, slot, attempt, afresh, rank
UPDATE runs SET state = 'available', reason = NULL, slot = $2, attempt = $3, rank = $5, error = NULL, output = NULL,
  failed_pos = NULL, finished_at = NULL, wake_at = NULL, crashes = 0, request = NULL,
  expires_at = CASE WHEN $4::integer = 1 THEN NULL ELSE expires_at END,
  deadline_at = CASE WHEN $4::integer = 1 THEN NULL ELSE deadline_at END
WHERE id = $1 AND state <> 'running' RETURNING id

-- name: effects_in_doubt
-- params: run
SELECT pos FROM effects WHERE run = $1 AND state = 'in_doubt'

-- name: effect_get
-- params: run, pos
SELECT name, hash, state, intent_at FROM effects WHERE run = $1 AND pos = $2

-- name: effect_drop
-- params: run, pos
DELETE FROM effects WHERE run = $1 AND pos = $2

-- A person's word becomes the step's result.
-- name: step_resolve
-- params: run, pos, name, hash, result, started_at, finished_at
INSERT INTO steps (run, seq, pos, kind, name, hash, result, started_at, finished_at, attempts)
SELECT $1, coalesce(max(seq), 0) + 1, $2, 'effect', $3, $4::bytea, $5::bytea, $6::bigint, $7::bigint, 1
FROM steps WHERE run = $1

-- name: steps_copy
-- params: from, to, upto
INSERT INTO steps (run, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts)
SELECT $2, seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
FROM steps WHERE run = $1 AND seq <= coalesce($3, 9223372036854775807) ORDER BY seq

-- ============================================================== time

-- Rows that another process holds are passed over; they are due again at the next look.
-- name: runs_due
-- params: now, limit
UPDATE runs SET state = 'available', wake_at = NULL,
  slot = CASE WHEN state = 'scheduled' THEN (mailbox IS NULL)::integer ELSE slot END
WHERE id IN (SELECT id FROM runs WHERE wake_at <= $1 AND state IN ('waiting', 'scheduled')
             ORDER BY wake_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, mailbox

-- Locked as they are found, so that none is claimed before it is ended.
-- name: runs_expired
-- params: now, limit
SELECT id FROM runs WHERE expires_at <= $1 AND started_at IS NULL AND state IN ('available', 'scheduled') LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: runs_overdue
-- params: now, limit
SELECT id FROM runs WHERE deadline_at <= $1 AND state IN ('available', 'scheduled', 'waiting', 'parked') LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: mailboxes_due
-- params: now
SELECT name FROM mailboxes WHERE admit_at <= $1

-- name: next_due
-- params:
SELECT min(at) FROM (
  SELECT min(wake_at) AS at FROM runs WHERE wake_at IS NOT NULL AND state IN ('waiting', 'scheduled')
  UNION ALL SELECT min(expires_at) FROM runs WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('available', 'scheduled')
  UNION ALL SELECT min(deadline_at) FROM runs WHERE deadline_at IS NOT NULL AND state IN ('available', 'scheduled', 'waiting', 'parked')
  UNION ALL SELECT min(admit_at) FROM mailboxes WHERE admit_at IS NOT NULL) moments

-- ============================================================== workers

-- name: worker_add
-- params: id, host, pid, start, boot, namespace, targets, joined_at, lease_until, lease_boot
INSERT INTO workers (id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'live', $8, $9, $10)
ON CONFLICT (id) DO UPDATE SET state = 'live', targets = excluded.targets, lease_until = excluded.lease_until,
  lease_boot = excluded.lease_boot

-- name: worker_renew
-- params: id, lease_until, lease_boot
UPDATE workers SET lease_until = $2, lease_boot = $3 WHERE id = $1 AND state = 'live' RETURNING id

-- name: worker_lock
-- params: id
SELECT state, lease_until, lease_boot FROM workers WHERE id = $1 FOR NO KEY UPDATE

-- name: worker_end
-- params: id, state
UPDATE workers SET state = $2 WHERE id = $1 AND state <> $2 RETURNING id

-- name: workers_all
-- params: live_only
SELECT id, host, pid, start, boot, namespace, targets, state, joined_at, lease_until, lease_boot FROM workers
WHERE state = 'live' OR $1::integer = 0 ORDER BY joined_at

-- name: workers_expired
-- params: lease_now, lease_boot
SELECT id FROM workers WHERE state = 'live' AND (lease_boot <> $2 OR lease_until <= $1)

-- Locked: a worker thought dead may be finishing one of them at this moment.
-- name: runs_owned
-- params: worker
SELECT id, agent, mailbox, epoch, crashes, crash_seq, request, parent,
       (SELECT coalesce(max(seq), 0) FROM steps WHERE run = runs.id)
FROM runs WHERE worker = $1 AND state = 'running' ORDER BY id FOR NO KEY UPDATE

-- The epoch grows: whatever the old worker still sends is refused.
-- name: run_recover
-- params: run, state, reason, slot, crashes, crash_seq, taken_over, finished_at
UPDATE runs SET state = $2, reason = $3, slot = CASE WHEN mailbox IS NULL AND $2 = 'available' THEN 1 ELSE $4 END,
  crashes = $5, crash_seq = $6, taken_over = $7, finished_at = $8, worker = NULL, request = NULL, epoch = epoch + 1,
  beat = NULL, beat_at = NULL
WHERE id = $1 AND state = 'running'

-- name: runs_requested
-- params: worker
SELECT {RUN} FROM runs WHERE worker = $1 AND state = 'running' AND request IS NOT NULL

-- ============================================================== schedules

-- name: schedule_put
-- params: name, agent, workflow, input, spec, paused, next_at, last_at
INSERT INTO schedules (name, agent, workflow, input, spec, paused, next_at, last_at, rev)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1)
ON CONFLICT (name) DO UPDATE SET agent = excluded.agent, workflow = excluded.workflow, input = excluded.input,
  spec = excluded.spec, next_at = excluded.next_at, rev = schedules.rev + 1

-- name: schedule_drop
-- params: name
DELETE FROM schedules WHERE name = $1 RETURNING name

-- name: schedules_all
-- params:
SELECT name, agent, workflow, input, spec, paused, next_at, last_at, rev FROM schedules ORDER BY name

-- No row back: somebody else moved it on.
-- name: schedule_move
-- params: name, rev, next_at, last_at
UPDATE schedules SET next_at = $3, last_at = coalesce($4, last_at), rev = rev + 1 WHERE name = $1 AND rev = $2 RETURNING rev

-- name: schedule_pause
-- params: name, paused, next_at
UPDATE schedules SET paused = $2, next_at = $3, rev = rev + 1 WHERE name = $1 RETURNING name

-- name: firing_add
-- params: schedule, due_at, outcome, run, reason, at
WITH {rows b_schedule text, b_due_at bigint, b_outcome text, b_run text, b_reason text, b_at bigint}
INSERT INTO firings (schedule, due_at, outcome, run, reason, at)
SELECT b_schedule, b_due_at, b_outcome, b_run, b_reason, b_at FROM b
ON CONFLICT DO NOTHING

-- name: firings_of
-- params: schedule, limit
SELECT schedule, due_at, outcome, run, reason, at FROM firings WHERE schedule = $1 ORDER BY due_at DESC LIMIT $2

-- ============================================================== reading

-- name: run_get
-- params: run
SELECT {RUN} FROM runs WHERE id = $1

-- '~' sorts after every id.
-- name: runs_all
-- params: before, states, target_agent, workflow, limit
SELECT {RUN} FROM runs WHERE id < coalesce($1, '~') AND ($2 = '' OR strpos($2, ',' || state || ',') > 0)
  AND ($3::text IS NULL OR agent = $3) AND ($4::text IS NULL OR workflow = $4)
ORDER BY id DESC LIMIT $5

-- name: runs_of_agent
-- params: before, states, agent, workflow, limit
SELECT {RUN} FROM runs WHERE agent = $3 AND id < coalesce($1, '~')
  AND ($2 = '' OR strpos($2, ',' || state || ',') > 0) AND ($4::text IS NULL OR workflow = $4)
ORDER BY id DESC LIMIT $5

-- name: runs_of_schedule
-- params: before, states, schedule, workflow, limit
SELECT {RUN} FROM runs WHERE schedule = $3 AND id < coalesce($1, '~')
  AND ($2 = '' OR strpos($2, ',' || state || ',') > 0) AND ($4::text IS NULL OR workflow = $4)
ORDER BY id DESC LIMIT $5

-- name: runs_of_parent
-- params: before, states, parent, workflow, limit
SELECT {RUN} FROM runs WHERE parent = $3 AND id < coalesce($1, '~')
  AND ($2 = '' OR strpos($2, ',' || state || ',') > 0) AND ($4::text IS NULL OR workflow = $4)
ORDER BY id DESC LIMIT $5

-- name: runs_like
-- params: low, high, suffix_pattern, limit
SELECT id FROM runs WHERE (id >= $1 AND id < $2) OR id LIKE $3 LIMIT $4

-- name: steps_of
-- params: run, after, limit
SELECT seq, pos, kind, name, hash, result, error, started_at, finished_at, attempts
FROM steps WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: waits_of
-- params: run
SELECT pos, kind, name, wake_at, data FROM waits WHERE run = $1 ORDER BY pos

-- name: effects_of
-- params: run, states
SELECT run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at, result FROM effects
WHERE run = $1 AND ($2 = '' OR strpos($2, ',' || state || ',') > 0) ORDER BY intent_at

-- name: effects_unsettled
-- params: states
SELECT run, pos, name, doubt, key, state, hash, request, intent_at, deadline_at, result FROM effects
WHERE state IN ('open', 'in_doubt') AND strpos($1, ',' || state || ',') > 0 ORDER BY intent_at

-- name: signals_of
-- params: run
SELECT id, run, name, payload, at FROM signals WHERE run = $1 AND consumed = 0 ORDER BY n

-- name: children_done
-- params: run
SELECT {RUN} FROM runs WHERE id IN (SELECT name FROM waits WHERE run = $1 AND kind = 'child')
  AND continued_to IS NULL AND state IN ('completed', 'failed', 'cancelled', 'discarded')

-- name: stream_count
-- params: run
SELECT coalesce(max(idx) + 1, 0) FROM stream WHERE run = $1

-- name: stream_of
-- params: run, after, limit
SELECT idx, pos, attempt, data, at FROM stream WHERE run = $1 AND idx > $2 ORDER BY idx LIMIT $3

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

-- An id is XID-N. Only transactions older than every open one are shown; see the table's comment.
-- name: events_after
-- params: after, limit, names
SELECT xid::text || '-' || n::text, at, name, agent, run, data FROM events
WHERE (xid, n) > (split_part($1, '-', 1)::xid8, ('0' || split_part($1, '-', 2))::bigint)
  AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND ($3 = '' OR strpos($3, ',' || name || ',') > 0)
ORDER BY events.xid, events.n LIMIT $2

-- name: event_last
-- params:
SELECT coalesce((SELECT xid::text || '-' || n::text FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
                 ORDER BY xid DESC, n DESC LIMIT 1), '0')

-- name: token_put
-- params: name, hash, scopes, created_at, last_used_at
INSERT INTO tokens (name, hash, scopes, created_at, last_used_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, created_at = excluded.created_at,
  last_used_at = excluded.last_used_at

-- name: token_drop
-- params: name
DELETE FROM tokens WHERE name = $1 RETURNING name

-- name: tokens_all
-- params:
SELECT name, hash, scopes, created_at, last_used_at FROM tokens ORDER BY name

-- name: subscriber_put
-- params: name, url, events, secret, cursor, failures, retry_at
INSERT INTO subscribers (name, url, events, secret, cursor, failures, retry_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE SET url = excluded.url, events = excluded.events, secret = excluded.secret,
  cursor = excluded.cursor, failures = excluded.failures, retry_at = excluded.retry_at

-- No row back: it was changed, moved on or removed meanwhile.
-- name: subscriber_move
-- params: name, url, events, secret, cursor_before, failures_before, retry_before, cursor, failures, retry_at
UPDATE subscribers SET cursor = $8, failures = $9, retry_at = $10
WHERE name = $1 AND url = $2 AND events = $3 AND secret = $4 AND cursor = $5 AND failures = $6
  AND retry_at IS NOT DISTINCT FROM $7
RETURNING name

-- name: subscriber_drop
-- params: name
DELETE FROM subscribers WHERE name = $1 RETURNING name

-- name: subscribers_all
-- params:
SELECT name, url, events, secret, cursor, failures, retry_at FROM subscribers ORDER BY name

-- ============================================================== upkeep

-- What a run that goes on may still ask for stays: its children, and the runs that it continues.
-- name: runs_old
-- params: before, limit
SELECT id FROM runs r WHERE finished_at < $1
  AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent AND p.finished_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.id = r.continued_to AND n.finished_at IS NULL)
ORDER BY finished_at LIMIT $2 FOR UPDATE OF r SKIP LOCKED

-- name: forget_run
-- params: run
WITH {rows b_run text}
DELETE FROM runs USING b WHERE id = b_run

-- name: forget_steps
-- params: run
WITH {rows b_run text}
DELETE FROM steps USING b WHERE run = b_run

-- name: forget_stream
-- params: run
WITH {rows b_run text}
DELETE FROM stream USING b WHERE run = b_run

-- name: forget_signals
-- params: run
WITH {rows b_run text}
DELETE FROM signals USING b WHERE run = b_run

-- name: forget_effects
-- params: run
WITH {rows b_run text}
DELETE FROM effects USING b WHERE run = b_run

-- Small things that have had their time, whatever run they belong to.
-- name: forget_events
-- params: before
DELETE FROM events WHERE at < $1

-- name: forget_firings
-- params: before
DELETE FROM firings WHERE at < $1

-- name: forget_dedups
-- params: now
DELETE FROM dedups WHERE until <= $1

-- name: forget_workers
-- params: before
DELETE FROM workers WHERE state <> 'live' AND joined_at < $1 AND NOT EXISTS (
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
