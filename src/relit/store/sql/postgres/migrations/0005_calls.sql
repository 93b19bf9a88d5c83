-- Calls of agents to models: what each cost, and what may still be spent. Money is in billionths of a US dollar.

CREATE TABLE calls (
  id         text COLLATE "C" PRIMARY KEY,
  agent      text COLLATE "C" NOT NULL,
  run        text COLLATE "C" NOT NULL,              -- the turn that it belongs to; '': none was under way
  number     bigint NOT NULL,           -- of that turn, from 1
  route      text NOT NULL,
  protocol   text NOT NULL,
  model      text NOT NULL,
  gateway    text COLLATE "C" NOT NULL,              -- the process that forwards it
  state      text NOT NULL,              -- open, done, failed, cancelled, cut (its gateway died)
  status     bigint NOT NULL,           -- the provider's; 0: none came
  why        text NOT NULL,
  started_at bigint NOT NULL,
  ended_at   bigint,
  input      bigint NOT NULL,           -- tokens: all that was read, cached ones among them
  output     bigint NOT NULL,
  cached     bigint NOT NULL,           -- read from the provider's cache
  written    bigint NOT NULL,           -- and written into it
  estimated  bigint NOT NULL,           -- 1: the provider did not say
  cost       bigint NOT NULL,
  reserved   bigint NOT NULL,           -- while it is open
  budgets    text NOT NULL               -- what it is counted in: the scopes, and the day
);
CREATE INDEX calls_run   ON calls (run, number) WHERE run <> '';
CREATE INDEX calls_agent ON calls (agent, started_at, id);
CREATE INDEX calls_open  ON calls (gateway) WHERE state = 'open';
CREATE INDEX calls_ended ON calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE budgets (
  scope    text COLLATE "C" NOT NULL,                -- agent:NAME, model:NAME
  day      text COLLATE "C" NOT NULL,                -- UTC
  spent    bigint NOT NULL,
  reserved bigint NOT NULL,             -- by calls under way
  told     bigint NOT NULL,             -- 1: that it is nearly spent, 2: that it is
  PRIMARY KEY (scope, day)
);

CREATE TABLE usage (
  day    text COLLATE "C" NOT NULL,                  -- UTC
  agent  text COLLATE "C" NOT NULL,
  route  text COLLATE "C" NOT NULL,
  model  text COLLATE "C" NOT NULL,
  calls  bigint NOT NULL,
  failed bigint NOT NULL,
  input  bigint NOT NULL,
  output bigint NOT NULL,
  cached bigint NOT NULL,
  written bigint NOT NULL,
  cost   bigint NOT NULL,
  PRIMARY KEY (day, agent, route, model)
);
