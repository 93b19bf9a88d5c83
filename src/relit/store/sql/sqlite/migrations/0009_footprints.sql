-- What starts took, as nodes measured it.

CREATE TABLE footprints (
  what TEXT PRIMARY KEY,       -- a kind and its version, or a command's agent
  peak INTEGER NOT NULL,       -- bytes
  settled INTEGER NOT NULL,    -- bytes
  cpu_s REAL NOT NULL,
  seen INTEGER NOT NULL        -- starts that it was learnt from
) WITHOUT ROWID;
