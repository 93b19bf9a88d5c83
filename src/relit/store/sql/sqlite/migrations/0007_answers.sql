-- What models answered, so that a turn that is delivered again need not buy it twice.

ALTER TABLE calls ADD COLUMN life   TEXT NOT NULL DEFAULT '';  -- of its turn: another one after each redelivery
ALTER TABLE calls ADD COLUMN lane   TEXT NOT NULL DEFAULT '';  -- of its turn: the conversation that it belongs to
ALTER TABLE calls ADD COLUMN key    TEXT NOT NULL DEFAULT '';  -- equal for calls that ask the same
ALTER TABLE calls ADD COLUMN source TEXT NOT NULL DEFAULT '';  -- the call whose answer it was given
ALTER TABLE calls ADD COLUMN saved  INTEGER NOT NULL DEFAULT 0;  -- what that one cost

CREATE TABLE answers (
  call TEXT PRIMARY KEY,
  head BLOB NOT NULL,          -- JSON: status and headers
  body BLOB,                -- compressed; NULL: it is large, and lies
  blob TEXT                   -- there
) WITHOUT ROWID;
