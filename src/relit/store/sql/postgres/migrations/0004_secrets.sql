-- The vault: secrets, each sealed with a key of its own, and who has used them.

CREATE TABLE vault (
  id   bigint PRIMARY KEY CHECK (id = 1),
  kind text NOT NULL,
  key  text NOT NULL,     -- the id of the master key, which does not tell it
  salt bytea NOT NULL,     -- of a passphrase
  cost text NOT NULL
);

CREATE TABLE secrets (
  name      text COLLATE "C" PRIMARY KEY,
  version   bigint NOT NULL,        -- grows with each new value
  wrapped   bytea NOT NULL,       -- the data key, sealed with the master key
  sealed    bytea NOT NULL,       -- the value, sealed with the data key
  set_at    bigint NOT NULL,
  sealed_at bigint NOT NULL         -- the data key is from then
);

CREATE TABLE audit (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at   bigint NOT NULL,
  what text NOT NULL,
  name text COLLATE "C" NOT NULL,
  who  text NOT NULL,
  whom text NOT NULL
);
CREATE INDEX audit_name ON audit (name, id);
CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'the audit trail only grows'; END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();
