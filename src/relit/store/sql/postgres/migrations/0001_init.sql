-- relit's first schema, in a schema of its own. Times are ms since 1970. Ids compare byte by byte (COLLATE "C"), so
-- that they sort by creation whatever the database's language is.

-- One row for each writing process: the last batch it committed. A COMMIT whose answer was lost is looked up here.
CREATE TABLE commits (
  writer text PRIMARY KEY,
  n      bigint NOT NULL,
  at     bigint NOT NULL
) WITH (fillfactor = 50);

-- The store's clock is the database's: processes on machines whose clocks differ agree on what is due. Tests move it.
CREATE FUNCTION relit_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    + coalesce((SELECT value::bigint FROM meta WHERE key = 'clock_offset_ms'), 0)
$$;

CREATE TABLE runs (
  id           text COLLATE "C" PRIMARY KEY,
  agent        text COLLATE "C" NOT NULL,
  workflow     text COLLATE "C" NOT NULL,
  target       text COLLATE "C" NOT NULL,  -- agent/workflow: what a worker claims by
  kind         text NOT NULL,
  state        text NOT NULL,
  reason       text,
  mailbox      text COLLATE "C",           -- NULL: not limited
  key          text,
  slot         smallint NOT NULL,          -- 1: holds one of its mailbox's places (always 1 without a mailbox)
  priority     integer NOT NULL,
  rank         bigint NOT NULL,            -- lower goes first: due time minus priority, so waiting is ageing
  wake_at      bigint,
  expires_at   bigint,
  deadline_at  bigint,
  epoch        bigint NOT NULL DEFAULT 0,
  worker       text COLLATE "C",
  attempt      integer NOT NULL DEFAULT 0,
  max_attempts integer NOT NULL,
  crashes      integer NOT NULL DEFAULT 0, -- workers lost in a row without a new step
  crash_seq    bigint NOT NULL DEFAULT -1,
  request      text,                       -- what its worker was asked to do: cancel, pause
  input        bytea NOT NULL,
  output       bytea,
  error        bytea,
  failed_pos   text,
  parent       text COLLATE "C",
  parent_pos   text,
  continued_to text,
  forked_from  text,
  schedule     text,
  created_at   bigint NOT NULL,
  started_at   bigint,
  finished_at  bigint,
  taken_over   text,
  beat         bytea,
  beat_at      bigint
) WITH (fillfactor = 80);
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

CREATE TABLE steps (
  run         text COLLATE "C" NOT NULL,
  seq         bigint NOT NULL,
  pos         text COLLATE "C" NOT NULL,
  kind        text NOT NULL,
  name        text NOT NULL,
  hash        bytea NOT NULL,
  result      bytea,
  error       bytea,
  started_at  bigint NOT NULL,
  finished_at bigint NOT NULL,
  attempts    integer NOT NULL
);
CREATE UNIQUE INDEX steps_run ON steps (run, seq);

CREATE TABLE waits (
  run     text COLLATE "C" NOT NULL,
  pos     text COLLATE "C" NOT NULL,
  kind    text NOT NULL,
  name    text NOT NULL,
  wake_at bigint,
  data    bytea,
  PRIMARY KEY (run, pos)
);

CREATE TABLE signals (
  n        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id       text COLLATE "C" NOT NULL UNIQUE,
  run      text COLLATE "C" NOT NULL,
  name     text NOT NULL,
  payload  bytea NOT NULL,
  at       bigint NOT NULL,
  consumed smallint NOT NULL DEFAULT 0     -- kept until the run goes, so that a repeated id stays one signal
);
CREATE INDEX signals_run ON signals (run, n);

CREATE TABLE effects (
  run         text COLLATE "C" NOT NULL,
  pos         text COLLATE "C" NOT NULL,
  name        text NOT NULL,
  doubt       text NOT NULL,
  key         text NOT NULL,
  state       text NOT NULL,
  hash        bytea NOT NULL,
  request     bytea,
  intent_at   bigint NOT NULL,
  deadline_at bigint NOT NULL,
  result      bytea,
  PRIMARY KEY (run, pos)
);
CREATE INDEX effects_open ON effects (state) WHERE state IN ('open', 'in_doubt');

CREATE TABLE stream (
  run     text COLLATE "C" NOT NULL,
  idx     bigint NOT NULL,
  pos     text COLLATE "C" NOT NULL,
  attempt integer NOT NULL,
  data    bytea NOT NULL,
  at      bigint NOT NULL,
  PRIMARY KEY (run, idx)
);

CREATE TABLE dedups (
  scope text COLLATE "C" NOT NULL,
  key   text COLLATE "C" NOT NULL,
  run   text NOT NULL,
  until bigint NOT NULL,
  PRIMARY KEY (scope, key)
);
CREATE INDEX dedups_until ON dedups (until);

CREATE TABLE mailboxes (
  name            text COLLATE "C" PRIMARY KEY,
  concurrency     integer,
  key_concurrency integer,
  depth           integer,
  rate            double precision,
  burst           integer NOT NULL,
  paused          smallint NOT NULL DEFAULT 0,
  tokens          double precision NOT NULL,
  refilled_at     bigint NOT NULL,
  admit_at        bigint                   -- when the bucket holds the next token
) WITH (fillfactor = 50);
CREATE INDEX mailboxes_admit ON mailboxes (admit_at) WHERE admit_at IS NOT NULL;

CREATE TABLE workers (
  id          text COLLATE "C" PRIMARY KEY,
  host        text NOT NULL,
  pid         bigint NOT NULL,
  start       bigint NOT NULL,
  boot        text NOT NULL,
  namespace   text NOT NULL,
  targets     text NOT NULL,
  state       text NOT NULL,
  joined_at   bigint NOT NULL,
  lease_until bigint NOT NULL,
  lease_boot  text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE schedules (
  name     text COLLATE "C" PRIMARY KEY,
  agent    text NOT NULL,
  workflow text NOT NULL,
  input    bytea NOT NULL,
  spec     bytea NOT NULL,
  paused   smallint NOT NULL DEFAULT 0,
  next_at  bigint,
  last_at  bigint,
  rev      bigint NOT NULL DEFAULT 0
);

CREATE TABLE firings (
  schedule text COLLATE "C" NOT NULL,
  due_at   bigint NOT NULL,
  outcome  text NOT NULL,
  run      text,
  reason   text,
  at       bigint NOT NULL,
  PRIMARY KEY (schedule, due_at, outcome)
);

-- Readers page by (xid, n) and see only transactions older than every one still open: what commits later has a higher
-- xid, so nobody who pages on ever skips an event. A sequence alone would: numbers are taken before the commit.
CREATE TABLE events (
  xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
  n     bigint GENERATED ALWAYS AS IDENTITY,
  at    bigint NOT NULL,
  name  text NOT NULL,
  agent text,
  run   text,
  data  bytea NOT NULL,
  PRIMARY KEY (xid, n)
);
CREATE INDEX events_at ON events (at);

CREATE TABLE tokens (
  name         text COLLATE "C" PRIMARY KEY,
  hash         text NOT NULL,
  scopes       text NOT NULL,
  created_at   bigint NOT NULL,
  last_used_at bigint
);

CREATE TABLE subscribers (
  name     text COLLATE "C" PRIMARY KEY,
  url      text NOT NULL,
  events   text NOT NULL,
  secret   text NOT NULL,
  cursor   text NOT NULL,
  failures integer NOT NULL,
  retry_at bigint
);
