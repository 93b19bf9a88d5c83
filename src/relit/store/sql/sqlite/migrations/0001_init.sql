-- relit's first schema. Times are ms since 1970; lease times are ms of CLOCK_BOOTTIME in the boot named beside them.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE runs (
  id           TEXT PRIMARY KEY,
  agent        TEXT NOT NULL,
  workflow     TEXT NOT NULL,
  target       TEXT NOT NULL,              -- agent/workflow: what a worker claims by
  kind         TEXT NOT NULL,
  state        TEXT NOT NULL,
  reason       TEXT,
  mailbox      TEXT,                       -- NULL: not limited
  key          TEXT,
  slot         INTEGER NOT NULL,           -- 1: holds one of its mailbox's places (always 1 without a mailbox)
  priority     INTEGER NOT NULL,
  rank         INTEGER NOT NULL,           -- lower goes first: due time minus priority, so waiting is ageing
  wake_at      INTEGER,
  expires_at   INTEGER,
  deadline_at  INTEGER,
  epoch        INTEGER NOT NULL DEFAULT 0,
  worker       TEXT,
  attempt      INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  crashes      INTEGER NOT NULL DEFAULT 0, -- workers lost in a row without a new step
  crash_seq    INTEGER NOT NULL DEFAULT -1,
  request      TEXT,                       -- what its worker was asked to do: cancel, pause
  input        BLOB NOT NULL,
  output       BLOB,
  error        BLOB,
  failed_pos   TEXT,
  parent       TEXT,
  parent_pos   TEXT,
  continued_to TEXT,
  forked_from  TEXT,
  schedule     TEXT,
  created_at   INTEGER NOT NULL,
  started_at   INTEGER,
  finished_at  INTEGER,
  taken_over   TEXT,
  beat         BLOB,
  beat_at      INTEGER
);
-- Claims read the head of these two: clean runs, and those that lost a worker (taken one at a time).
CREATE INDEX runs_ready   ON runs (target, rank) WHERE state = 'available' AND slot = 1 AND crashes = 0;
CREATE INDEX runs_suspect ON runs (target, rank) WHERE state = 'available' AND slot = 1 AND crashes > 0;
CREATE INDEX runs_queued  ON runs (mailbox, rank) WHERE mailbox IS NOT NULL AND slot = 0 AND state = 'available';
CREATE INDEX runs_placed  ON runs (mailbox, key) WHERE mailbox IS NOT NULL AND slot = 1;
CREATE INDEX runs_depth   ON runs (mailbox) WHERE mailbox IS NOT NULL AND started_at IS NULL
                                              AND state IN ('available', 'scheduled');
CREATE INDEX runs_wake    ON runs (wake_at) WHERE wake_at IS NOT NULL AND state IN ('waiting', 'scheduled');
CREATE INDEX runs_expiry  ON runs (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL
                                                 AND state IN ('available', 'scheduled');
CREATE INDEX runs_limit   ON runs (deadline_at) WHERE deadline_at IS NOT NULL
                                                  AND state IN ('available', 'scheduled', 'waiting', 'parked');
CREATE INDEX runs_owned   ON runs (worker) WHERE state = 'running';
CREATE INDEX runs_parent  ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_sched   ON runs (schedule, id) WHERE schedule IS NOT NULL;
CREATE INDEX runs_agent   ON runs (agent, id);
CREATE INDEX runs_state   ON runs (state, target, id);
CREATE INDEX runs_ended   ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- A rowid table: steps of all runs are appended at the end, whichever runs work at once.
CREATE TABLE steps (
  run         TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  pos         TEXT NOT NULL,
  kind        TEXT NOT NULL,
  name        TEXT NOT NULL,
  hash        BLOB NOT NULL,
  result      BLOB,
  error       BLOB,
  started_at  INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  attempts    INTEGER NOT NULL
);
CREATE UNIQUE INDEX steps_run ON steps (run, seq);

CREATE TABLE waits (
  run     TEXT NOT NULL,
  pos     TEXT NOT NULL,
  kind    TEXT NOT NULL,
  name    TEXT NOT NULL,
  wake_at INTEGER,
  data    BLOB,
  PRIMARY KEY (run, pos)
) WITHOUT ROWID;

CREATE TABLE signals (
  n        INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  run      TEXT NOT NULL,
  name     TEXT NOT NULL,
  payload  BLOB NOT NULL,
  at       INTEGER NOT NULL,
  consumed INTEGER NOT NULL DEFAULT 0      -- kept until the run goes, so that a repeated id stays one signal
);
CREATE INDEX signals_run ON signals (run, n);

CREATE TABLE effects (
  run         TEXT NOT NULL,
  pos         TEXT NOT NULL,
  name        TEXT NOT NULL,
  doubt       TEXT NOT NULL,
  key         TEXT NOT NULL,
  state       TEXT NOT NULL,
  hash        BLOB NOT NULL,
  request     BLOB,
  intent_at   INTEGER NOT NULL,
  deadline_at INTEGER NOT NULL,
  result      BLOB,
  PRIMARY KEY (run, pos)
) WITHOUT ROWID;
CREATE INDEX effects_open ON effects (state) WHERE state IN ('open', 'in_doubt');

CREATE TABLE stream (
  run     TEXT NOT NULL,
  idx     INTEGER NOT NULL,
  pos     TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  data    BLOB NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (run, idx)
) WITHOUT ROWID;

CREATE TABLE dedups (
  scope TEXT NOT NULL,
  key   TEXT NOT NULL,
  run   TEXT NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX dedups_until ON dedups (until);

CREATE TABLE mailboxes (
  name            TEXT PRIMARY KEY,
  concurrency     INTEGER,
  key_concurrency INTEGER,
  depth           INTEGER,
  rate            REAL,
  burst           INTEGER NOT NULL,
  paused          INTEGER NOT NULL DEFAULT 0,
  tokens          REAL NOT NULL,
  refilled_at     INTEGER NOT NULL,
  admit_at        INTEGER                  -- when the bucket holds the next token
) WITHOUT ROWID;
CREATE INDEX mailboxes_admit ON mailboxes (admit_at) WHERE admit_at IS NOT NULL;

CREATE TABLE workers (
  id          TEXT PRIMARY KEY,
  host        TEXT NOT NULL,
  pid         INTEGER NOT NULL,
  start       INTEGER NOT NULL,
  boot        TEXT NOT NULL,
  namespace   TEXT NOT NULL,
  targets     TEXT NOT NULL,
  state       TEXT NOT NULL,
  joined_at   INTEGER NOT NULL,
  lease_until INTEGER NOT NULL,
  lease_boot  TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE schedules (
  name     TEXT PRIMARY KEY,
  agent    TEXT NOT NULL,
  workflow TEXT NOT NULL,
  input    BLOB NOT NULL,
  spec     BLOB NOT NULL,
  paused   INTEGER NOT NULL DEFAULT 0,
  next_at  INTEGER,
  last_at  INTEGER,
  rev      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE firings (
  schedule TEXT NOT NULL,
  due_at   INTEGER NOT NULL,
  outcome  TEXT NOT NULL,
  run      TEXT,
  reason   TEXT,
  at       INTEGER NOT NULL,
  PRIMARY KEY (schedule, due_at, outcome)
) WITHOUT ROWID;

CREATE TABLE events (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  at    INTEGER NOT NULL,
  name  TEXT NOT NULL,
  agent TEXT,
  run   TEXT,
  data  BLOB NOT NULL
);
CREATE INDEX events_at ON events (at);

CREATE TABLE tokens (
  name         TEXT PRIMARY KEY,
  hash         TEXT NOT NULL,
  scopes       TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  last_used_at INTEGER
) WITHOUT ROWID;

CREATE TABLE subscribers (
  name     TEXT PRIMARY KEY,
  url      TEXT NOT NULL,
  events   TEXT NOT NULL,
  secret   TEXT NOT NULL,
  cursor   TEXT NOT NULL,
  failures INTEGER NOT NULL,
  retry_at INTEGER
) WITHOUT ROWID;
