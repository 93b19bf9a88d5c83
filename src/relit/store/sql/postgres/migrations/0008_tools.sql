-- Calls of agents to tools: written down before they are sent, and when they have ended.

CREATE TABLE tool_calls (
  id          text COLLATE "C" PRIMARY KEY,
  agent       text COLLATE "C" NOT NULL,
  run         text COLLATE "C" NOT NULL,   -- the turn that it belongs to; '': none was under way
  life        text COLLATE "C" NOT NULL,   -- of its turn
  number      bigint NOT NULL,             -- of that turn's calls to tools, from 1
  tool        text COLLATE "C" NOT NULL,
  effect      text COLLATE "C" NOT NULL,
  state       text COLLATE "C" NOT NULL,   -- held, approved, denied, expired, open, done, failed, in_doubt, replayed
  hash        text COLLATE "C" NOT NULL,   -- equal for the same arguments
  same        text COLLATE "C" NOT NULL,   -- equal for those that mean the same; '': only equal ones do
  seen        bigint,                      -- so many such calls stood in the prompt; NULL: not known
  key         text COLLATE "C" NOT NULL,   -- the idempotency key
  arguments   bytea NOT NULL,              -- JSON
  result      bytea,
  blob        text COLLATE "C",            -- where the result lies when it is large
  failed      bigint NOT NULL,             -- 1: the result is an error
  why         text COLLATE "C" NOT NULL,
  gateway     text COLLATE "C" NOT NULL,   -- the process that sends it
  heard       bigint NOT NULL,             -- 0: its caller waits, 1: has the result, 2: went away
  owed        bigint NOT NULL,             -- 1: its agent is told of the end by a message
  started_at  bigint NOT NULL,
  sent_at     bigint,
  deadline_at bigint,
  ended_at    bigint,
  expires_at  bigint,
  decided_by  text COLLATE "C" NOT NULL,
  source      text COLLATE "C" NOT NULL    -- the call whose result it was given
);
CREATE INDEX tool_calls_run     ON tool_calls (run, number) WHERE run <> '';
CREATE INDEX tool_calls_agent   ON tool_calls (agent, started_at, id);
CREATE INDEX tool_calls_waiting ON tool_calls (state, id) WHERE state IN ('held', 'approved', 'open', 'in_doubt');
CREATE INDEX tool_calls_heard   ON tool_calls (gateway) WHERE heard = 0;
CREATE INDEX tool_calls_owed    ON tool_calls (id) WHERE owed = 1;
CREATE INDEX tool_calls_source  ON tool_calls (source) WHERE source <> '';
CREATE INDEX tool_calls_ended   ON tool_calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE notes (
  agent text COLLATE "C" NOT NULL,
  name  text COLLATE "C" NOT NULL,
  text  text NOT NULL,
  at    bigint NOT NULL,
  PRIMARY KEY (agent, name)
);
