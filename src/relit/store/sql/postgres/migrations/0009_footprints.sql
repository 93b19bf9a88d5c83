-- What starts took, as nodes measured it.

CREATE TABLE footprints (
  what text COLLATE "C" PRIMARY KEY,  -- a kind and its version, or a command's agent
  peak bigint NOT NULL,               -- bytes
  settled bigint NOT NULL,            -- bytes
  cpu_s double precision NOT NULL,
  seen bigint NOT NULL                -- starts that it was learnt from
);
