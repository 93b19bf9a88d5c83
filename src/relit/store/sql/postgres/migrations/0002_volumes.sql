-- Versioned volumes. An interval (since, until) is a range of snapshot numbers of its volume; until NULL: still so.
-- Rows whose since or until is no snapshot yet are staged: nobody sees a difference until that snapshot is committed.

CREATE TABLE volumes (
  id         text COLLATE "C" PRIMARY KEY,
  name       text COLLATE "C" NOT NULL UNIQUE,
  node       text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  newest     bigint NOT NULL,
  origin     text COLLATE "C" NOT NULL
);

CREATE TABLE snapshots (
  volume    text COLLATE "C" NOT NULL,
  number    bigint NOT NULL,
  id        text COLLATE "C" NOT NULL UNIQUE,
  at        bigint NOT NULL,
  stored_at bigint,
  pinned    bigint NOT NULL DEFAULT 0,
  pack      text COLLATE "C",                          -- where its delta lies; NULL: it is written later (a fork)
  body      bytea NOT NULL,                 -- msgpack of the Snapshot
  PRIMARY KEY (volume, number)
);
CREATE INDEX snapshots_at ON snapshots (volume, at);
CREATE INDEX snapshots_unstored ON snapshots (volume) WHERE stored_at IS NULL;
CREATE INDEX snapshots_undescribed ON snapshots (volume) WHERE pack IS NULL;

CREATE TABLE tags (
  volume text COLLATE "C" NOT NULL,
  tag    text COLLATE "C" NOT NULL,
  number bigint NOT NULL,
  PRIMARY KEY (volume, number, tag)
);
CREATE INDEX tags_tag ON tags (volume, tag, number);

CREATE TABLE entries (
  volume text COLLATE "C" NOT NULL,
  path   bytea NOT NULL,
  since  bigint NOT NULL,
  until  bigint,
  body   bytea NOT NULL,                    -- msgpack of the Entry
  PRIMARY KEY (volume, path, since)
);
CREATE INDEX entries_since ON entries (volume, since);
CREATE INDEX entries_until ON entries (volume, until) WHERE until IS NOT NULL;

CREATE TABLE segments (
  volume text COLLATE "C" NOT NULL,
  path   bytea NOT NULL,
  no     bigint NOT NULL,
  since  bigint NOT NULL,
  until  bigint,
  ids    bytea NOT NULL,
  PRIMARY KEY (volume, path, no, since)
);
CREATE INDEX segments_since ON segments (volume, since);
CREATE INDEX segments_until ON segments (volume, until) WHERE until IS NOT NULL;

CREATE TABLE packs (
  id           text COLLATE "C" PRIMARY KEY,
  node         text COLLATE "C" NOT NULL,
  state        text COLLATE "C" NOT NULL,
  size         bigint NOT NULL,
  created_at   bigint NOT NULL,
  stored_at    bigint,
  condemned_at bigint
);
CREATE INDEX packs_waiting ON packs (node, created_at) WHERE state IN ('open', 'sealed');

-- A chunk may have copies in several packs.
CREATE TABLE chunks (
  id     bytea NOT NULL,
  pack   text COLLATE "C" NOT NULL,
  start  bigint NOT NULL,
  length bigint NOT NULL,
  raw    bigint NOT NULL,
  PRIMARY KEY (id, pack)
);
CREATE INDEX chunks_pack ON chunks (pack);

-- What an agent is doing is read while it stands still.
CREATE INDEX runs_unfinished ON runs (agent) WHERE finished_at IS NULL;

-- Set when the store came back from a copy: what the run did after that copy was made, nobody knows.
ALTER TABLE runs ADD COLUMN recovered_at bigint;
