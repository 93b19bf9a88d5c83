-- What models answered, so that a turn that is delivered again need not buy it twice.

ALTER TABLE calls ADD COLUMN life   text NOT NULL DEFAULT '';  -- of its turn: another one after each redelivery
ALTER TABLE calls ADD COLUMN lane   text NOT NULL DEFAULT '';  -- of its turn: the conversation that it belongs to
ALTER TABLE calls ADD COLUMN key    text NOT NULL DEFAULT '';  -- equal for calls that ask the same
ALTER TABLE calls ADD COLUMN source text NOT NULL DEFAULT '';  -- the call whose answer it was given
ALTER TABLE calls ADD COLUMN saved  bigint NOT NULL DEFAULT 0;  -- what that one cost

CREATE TABLE answers (
  call text COLLATE "C" PRIMARY KEY,
  head bytea NOT NULL,          -- JSON: status and headers
  body bytea,                -- compressed; NULL: it is large, and lies
  blob text                   -- there
);
