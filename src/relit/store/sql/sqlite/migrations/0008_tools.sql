-- Calls of agents to tools: written down before they are sent, and when they have ended.

CREATE TABLE tool_calls (
  id          TEXT PRIMARY KEY,
  agent       TEXT NOT NULL,
  run         TEXT NOT NULL,               -- the turn that it belongs to; '': none was under way
  life        TEXT NOT NULL,               -- of its turn
  number      INTEGER NOT NULL,            -- of that turn's calls to tools, from 1
  tool        TEXT NOT NULL,
  effect      TEXT NOT NULL,
  state       TEXT NOT NULL,               -- held, approved, denied, expired, open, done, failed, in_doubt, replayed
  hash        TEXT NOT NULL,               -- equal for the same arguments
  same        TEXT NOT NULL,               -- equal for those that mean the same; '': only equal ones do
  seen        INTEGER,                     -- so many such calls stood in the prompt; NULL: not known
  key         TEXT NOT NULL,               -- the idempotency key
  arguments   BLOB NOT NULL,               -- JSON
  result      BLOB,
  blob        TEXT,                        -- where the result lies when it is large
  failed      INTEGER NOT NULL,            -- 1: the result is an error
  why         TEXT NOT NULL,
  gateway     TEXT NOT NULL,               -- the process that sends it
  heard       INTEGER NOT NULL,            -- 0: its caller waits, 1: has the result, 2: went away
  owed        INTEGER NOT NULL,            -- 1: its agent is told of the end by a message
  started_at  INTEGER NOT NULL,
  sent_at     INTEGER,
  deadline_at INTEGER,
  ended_at    INTEGER,
  expires_at  INTEGER,
  decided_by  TEXT NOT NULL,
  source      TEXT NOT NULL                -- the call whose result it was given
);
CREATE INDEX tool_calls_run     ON tool_calls (run, number) WHERE run <> '';
CREATE INDEX tool_calls_agent   ON tool_calls (agent, started_at, id);
CREATE INDEX tool_calls_waiting ON tool_calls (state, id) WHERE state IN ('held', 'approved', 'open', 'in_doubt');
CREATE INDEX tool_calls_heard   ON tool_calls (gateway) WHERE heard = 0;
CREATE INDEX tool_calls_owed    ON tool_calls (id) WHERE owed = 1;
CREATE INDEX tool_calls_source  ON tool_calls (source) WHERE source <> '';
CREATE INDEX tool_calls_ended   ON tool_calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE notes (
  agent TEXT NOT NULL,
  name  TEXT NOT NULL,
  text  TEXT NOT NULL,
  at    INTEGER NOT NULL,
  PRIMARY KEY (agent, name)
) WITHOUT ROWID;
