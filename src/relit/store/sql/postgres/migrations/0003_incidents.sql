-- Incidents: agents' troubles as their nodes tell them. Alerts: what is told of them, to whom, and whether it was taken.

CREATE TABLE incidents (
  id          text COLLATE "C" PRIMARY KEY,
  agent       text COLLATE "C" NOT NULL,
  instance    text NOT NULL,
  opened_at   bigint NOT NULL,              -- by the node's clock, as resolved_at
  resolved_at bigint,
  severity    text NOT NULL,
  rung        bigint NOT NULL,
  cause_group text NOT NULL,                -- equal for troubles of one cause outside of the agents; '': its own
  title       text NOT NULL,
  rev         bigint NOT NULL,              -- grows with the reports; an older one that comes late changes nothing
  seen_at     bigint NOT NULL,              -- by the store's clock, as updated_at
  updated_at  bigint NOT NULL,
  document    bytea NOT NULL                -- JSON, as the node sent it. The last column: lists do not read it
);
CREATE INDEX incidents_opened   ON incidents (opened_at, id);
CREATE INDEX incidents_agent    ON incidents (agent, opened_at, id);
CREATE INDEX incidents_open     ON incidents (opened_at, id) WHERE resolved_at IS NULL;
CREATE INDEX incidents_resolved ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE alerts (
  id       text COLLATE "C" PRIMARY KEY,    -- the same for the same decision, whoever makes it
  channel  text COLLATE "C" NOT NULL,
  kind     text NOT NULL,
  incident text COLLATE "C" NOT NULL,       -- the first of those it tells of: what receivers know it by
  members  text NOT NULL,                   -- all of them
  severity text NOT NULL,
  state    text NOT NULL,
  made_at  bigint NOT NULL,
  tries    bigint NOT NULL,
  retry_at bigint,
  sent_at  bigint,
  why      text NOT NULL,                   -- the last failure
  closed   bigint NOT NULL                  -- nothing more will be told of its incident there
);
CREATE INDEX alerts_live     ON alerts (incident, channel) WHERE closed = 0;
CREATE INDEX alerts_incident ON alerts (incident, channel);
