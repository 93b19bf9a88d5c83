-- The vault: secrets, each sealed with a key of its own, and who has used them.

CREATE TABLE vault (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  kind TEXT NOT NULL,
  key  TEXT NOT NULL,     -- the id of the master key, which does not tell it
  salt BLOB NOT NULL,     -- of a passphrase
  cost TEXT NOT NULL
);

CREATE TABLE secrets (
  name      TEXT PRIMARY KEY,
  version   INTEGER NOT NULL,        -- grows with each new value
  wrapped   BLOB NOT NULL,       -- the data key, sealed with the master key
  sealed    BLOB NOT NULL,       -- the value, sealed with the data key
  set_at    INTEGER NOT NULL,
  sealed_at INTEGER NOT NULL         -- the data key is from then
);

CREATE TABLE audit (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  at   INTEGER NOT NULL,
  what TEXT NOT NULL,
  name TEXT NOT NULL,
  who  TEXT NOT NULL,
  whom TEXT NOT NULL
);
CREATE INDEX audit_name ON audit (name, id);
CREATE TRIGGER audit_stays_as_it_is BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
