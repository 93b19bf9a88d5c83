-- The vault.

-- No row back: another one was first.
-- name: vault_begin
-- params: kind, key, salt, cost
INSERT INTO vault (id, kind, key, salt, cost) VALUES (1, $1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING id

-- name: vault_lock
-- params:
SELECT {LOCK} FROM vault WHERE id = 1 FOR NO KEY UPDATE

-- name: vault_change
-- params: kind, key, salt, cost
UPDATE vault SET kind = $1, key = $2, salt = $3, cost = $4 WHERE id = 1

-- name: vault_get
-- params:
SELECT {LOCK} FROM vault WHERE id = 1

-- name: secret_put
-- params: name, version, wrapped, sealed, set_at, sealed_at
INSERT INTO secrets (name, version, wrapped, sealed, set_at, sealed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, wrapped = excluded.wrapped, sealed = excluded.sealed,
  set_at = excluded.set_at, sealed_at = excluded.sealed_at

-- name: secret_remove
-- params: name
DELETE FROM secrets WHERE name = $1 RETURNING name

-- name: secrets_all
-- params:
SELECT {SECRET} FROM secrets ORDER BY name

-- name: audit_add
-- params: at, what, name, who, whom
INSERT INTO audit (at, what, name, who, whom) VALUES ($1, $2, $3, $4, $5)

-- The newest entries first.
-- name: audit_list
-- params: before, name, limit
SELECT {AUDITED} FROM audit
WHERE id < $1 AND ($2::text = '' OR name = $2)
ORDER BY id DESC LIMIT $3
