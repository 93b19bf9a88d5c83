-- Calls of agents to models: what each cost, and what may still be spent. Money is in billionths of a US dollar.

CREATE TABLE calls (
  id         TEXT PRIMARY KEY,
  agent      TEXT NOT NULL,
  run        TEXT NOT NULL,              -- the turn that it belongs to; '': none was under way
  number     INTEGER NOT NULL,           -- of that turn, from 1
  route      TEXT NOT NULL,
  protocol   TEXT NOT NULL,
  model      TEXT NOT NULL,
  gateway    TEXT NOT NULL,              -- the process that forwards it
  state      TEXT NOT NULL,              -- open, done, failed, cancelled, cut (its gateway died)
  status     INTEGER NOT NULL,           -- the provider's; 0: none came
  why        TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  input      INTEGER NOT NULL,           -- tokens: all that was read, cached ones among them
  output     INTEGER NOT NULL,
  cached     INTEGER NOT NULL,           -- read from the provider's cache
  written    INTEGER NOT NULL,           -- and written into it
  estimated  INTEGER NOT NULL,           -- 1: the provider did not say
  cost       INTEGER NOT NULL,
  reserved   INTEGER NOT NULL,           -- while it is open
  budgets    TEXT NOT NULL               -- what it is counted in: the scopes, and the day
);
CREATE INDEX calls_run   ON calls (run, number) WHERE run <> '';
CREATE INDEX calls_agent ON calls (agent, started_at, id);
CREATE INDEX calls_open  ON calls (gateway) WHERE state = 'open';
CREATE INDEX calls_ended ON calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE budgets (
  scope    TEXT NOT NULL,                -- agent:NAME, model:NAME
  day      TEXT NOT NULL,                -- UTC
  spent    INTEGER NOT NULL,
  reserved INTEGER NOT NULL,             -- by calls under way
  told     INTEGER NOT NULL,             -- 1: that it is nearly spent, 2: that it is
  PRIMARY KEY (scope, day)
) WITHOUT ROWID;

CREATE TABLE usage (
  day    TEXT NOT NULL,                  -- UTC
  agent  TEXT NOT NULL,
  route  TEXT NOT NULL,
  model  TEXT NOT NULL,
  calls  INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  input  INTEGER NOT NULL,
  output INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  written INTEGER NOT NULL,
  cost   INTEGER NOT NULL,
  PRIMARY KEY (day, agent, route, model)
) WITHOUT ROWID;
