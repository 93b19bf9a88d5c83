-- Versioned volumes. An interval (since, until) is a range of snapshot numbers of its volume; until NULL: still so.
-- Rows whose since or until is no snapshot yet are staged: nobody sees a difference until that snapshot is committed.

CREATE TABLE volumes (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  node       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  newest     INTEGER NOT NULL,
  origin     TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE snapshots (
  volume    TEXT NOT NULL,
  number    INTEGER NOT NULL,
  id        TEXT NOT NULL UNIQUE,
  at        INTEGER NOT NULL,
  stored_at INTEGER,
  pinned    INTEGER NOT NULL DEFAULT 0,
  pack      TEXT,                          -- where its delta lies; NULL: it is written later (a fork)
  body      BLOB NOT NULL,                 -- msgpack of the Snapshot
  PRIMARY KEY (volume, number)
) WITHOUT ROWID;
CREATE INDEX snapshots_at ON snapshots (volume, at);
CREATE INDEX snapshots_unstored ON snapshots (volume) WHERE stored_at IS NULL;
CREATE INDEX snapshots_undescribed ON snapshots (volume) WHERE pack IS NULL;

CREATE TABLE tags (
  volume TEXT NOT NULL,
  tag    TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (volume, number, tag)
) WITHOUT ROWID;
CREATE INDEX tags_tag ON tags (volume, tag, number);

CREATE TABLE entries (
  volume TEXT NOT NULL,
  path   BLOB NOT NULL,
  since  INTEGER NOT NULL,
  until  INTEGER,
  body   BLOB NOT NULL,                    -- msgpack of the Entry
  PRIMARY KEY (volume, path, since)
) WITHOUT ROWID;
CREATE INDEX entries_since ON entries (volume, since);
CREATE INDEX entries_until ON entries (volume, until) WHERE until IS NOT NULL;

CREATE TABLE segments (
  volume TEXT NOT NULL,
  path   BLOB NOT NULL,
  no     INTEGER NOT NULL,
  since  INTEGER NOT NULL,
  until  INTEGER,
  ids    BLOB NOT NULL,
  PRIMARY KEY (volume, path, no, since)
) WITHOUT ROWID;
CREATE INDEX segments_since ON segments (volume, since);
CREATE INDEX segments_until ON segments (volume, until) WHERE until IS NOT NULL;

CREATE TABLE packs (
  id           TEXT PRIMARY KEY,
  node         TEXT NOT NULL,
  state        TEXT NOT NULL,
  size         INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  stored_at    INTEGER,
  condemned_at INTEGER
) WITHOUT ROWID;
CREATE INDEX packs_waiting ON packs (node, created_at) WHERE state IN ('open', 'sealed');

-- A chunk may have copies in several packs.
CREATE TABLE chunks (
  id     BLOB NOT NULL,
  pack   TEXT NOT NULL,
  start  INTEGER NOT NULL,
  length INTEGER NOT NULL,
  raw    INTEGER NOT NULL,
  PRIMARY KEY (id, pack)
) WITHOUT ROWID;
CREATE INDEX chunks_pack ON chunks (pack);

-- What an agent is doing is read while it stands still.
CREATE INDEX runs_unfinished ON runs (agent) WHERE finished_at IS NULL;

-- Set when the store came back from a copy: what the run did after that copy was made, nobody knows.
ALTER TABLE runs ADD COLUMN recovered_at INTEGER;
