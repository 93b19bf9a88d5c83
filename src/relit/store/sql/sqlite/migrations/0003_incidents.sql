-- Incidents: agents' troubles as their nodes tell them. Alerts: what is told of them, to whom, and whether it was taken.

CREATE TABLE incidents (
  id          TEXT PRIMARY KEY,
  agent       TEXT NOT NULL,
  instance    TEXT NOT NULL,
  opened_at   INTEGER NOT NULL,            -- by the node's clock, as resolved_at
  resolved_at INTEGER,
  severity    TEXT NOT NULL,
  rung        INTEGER NOT NULL,
  cause_group TEXT NOT NULL,               -- equal for troubles of one cause outside of the agents; '': its own
  title       TEXT NOT NULL,
  rev         INTEGER NOT NULL,            -- grows with the reports; an older one that comes late changes nothing
  seen_at     INTEGER NOT NULL,            -- by the store's clock, as updated_at
  updated_at  INTEGER NOT NULL,
  document    BLOB NOT NULL                -- JSON, as the node sent it. The last column: lists do not read it
);
CREATE INDEX incidents_opened   ON incidents (opened_at, id);
CREATE INDEX incidents_agent    ON incidents (agent, opened_at, id);
CREATE INDEX incidents_open     ON incidents (opened_at, id) WHERE resolved_at IS NULL;
CREATE INDEX incidents_resolved ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE alerts (
  id       TEXT PRIMARY KEY,               -- the same for the same decision, whoever makes it
  channel  TEXT NOT NULL,
  kind     TEXT NOT NULL,
  incident TEXT NOT NULL,                  -- the first of those it tells of: what receivers know it by
  members  TEXT NOT NULL,                  -- all of them
  severity TEXT NOT NULL,
  state    TEXT NOT NULL,
  made_at  INTEGER NOT NULL,
  tries    INTEGER NOT NULL,
  retry_at INTEGER,
  sent_at  INTEGER,
  why      TEXT NOT NULL,                  -- the last failure
  closed   INTEGER NOT NULL                -- nothing more will be told of its incident there
) WITHOUT ROWID;
CREATE INDEX alerts_live     ON alerts (incident, channel) WHERE closed = 0;
CREATE INDEX alerts_incident ON alerts (incident, channel);
