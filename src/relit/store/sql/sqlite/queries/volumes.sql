-- Volumes: snapshots, the intervals of their trees, chunks and packs.

-- name: store_identity
-- params:
SELECT value FROM meta WHERE key = 'store_id'

-- How often this store was recovered elsewhere and taken on: see store/generation.py.
-- name: store_generation
-- params:
SELECT value FROM meta WHERE key = 'store_generation'

-- name: store_identity_add
-- params: id
INSERT INTO meta (key, value) VALUES ('store_id', ?1) ON CONFLICT (key) DO NOTHING

-- ============================================================== volumes and snapshots

-- name: volume_add
-- params: id, name, node, created_at, newest, origin
INSERT INTO volumes (id, name, node, created_at, newest, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (name) DO NOTHING RETURNING id

-- name: volume_named
-- params: name
SELECT id, name, node, created_at, newest, origin FROM volumes WHERE name = ?1

-- name: volumes_all
-- params:
SELECT id, name, node, created_at, newest, origin FROM volumes ORDER BY name

-- Held until the commit: two snapshots of one volume follow each other.
-- name: volume_hold
-- params: id
SELECT newest, name FROM volumes WHERE id = ?1

-- name: volume_move
-- params: id, newest
UPDATE volumes SET newest = ?2 WHERE id = ?1

-- name: volume_remove
-- params: id
DELETE FROM volumes WHERE id = ?1

-- name: snapshots_remove
-- params: volume
DELETE FROM snapshots WHERE volume = ?1

-- name: tags_remove
-- params: volume
DELETE FROM tags WHERE volume = ?1

-- name: entries_remove
-- params: volume
DELETE FROM entries WHERE volume = ?1

-- name: segments_remove
-- params: volume
DELETE FROM segments WHERE volume = ?1

-- name: snapshot_add
-- params: volume, number, id, at, stored_at, pack, body
INSERT INTO snapshots (volume, number, id, at, stored_at, pack, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: snapshot_by_id
-- params: id
SELECT body, stored_at, pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s WHERE id = ?1

-- name: snapshots_of
-- params: volume, since_ms, before, limit
SELECT body, stored_at, pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s WHERE volume = ?1 AND at >= ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4

-- name: snapshot_one
-- params: volume, number
SELECT body, stored_at, pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s WHERE volume = ?1 AND number = ?2

-- name: snapshot_at
-- params: volume, at
SELECT body, stored_at, pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s WHERE volume = ?1 AND at <= ?2 ORDER BY at DESC, number DESC LIMIT 1

-- name: snapshot_tagged
-- params: volume, tag
SELECT body, stored_at, pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s WHERE volume = ?1 AND number = (SELECT max(number) FROM tags WHERE volume = ?1 AND tag = ?2)

-- name: snapshots_unstored
-- params: node
SELECT s.body, s.stored_at, s.pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s INDEXED BY snapshots_unstored JOIN volumes v ON v.id = s.volume WHERE s.stored_at IS NULL AND v.node = ?1 ORDER BY s.id

-- name: snapshots_undescribed
-- params: node
SELECT s.body, s.stored_at, s.pinned, (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.volume = s.volume AND t.number = s.number)
FROM snapshots s INDEXED BY snapshots_undescribed JOIN volumes v ON v.id = s.volume WHERE s.pack IS NULL AND v.node = ?1 ORDER BY s.id

-- In which packs the records of a volume's snapshots lie.
-- name: snapshots_described
-- params: volume
SELECT number, pack FROM snapshots WHERE volume = ?1 AND pack IS NOT NULL ORDER BY number

-- A snapshot is stored when no pack of its node that is as old as its own, or older, is still on its way.
-- name: snapshots_now_stored
-- params: node, now
UPDATE snapshots INDEXED BY snapshots_unstored SET stored_at = ?2 WHERE stored_at IS NULL AND pack IS NOT NULL
  AND volume IN (SELECT id FROM volumes WHERE node = ?1)
  AND (SELECT created_at FROM packs p WHERE p.id = snapshots.pack) <
      coalesce((SELECT min(created_at) FROM packs p WHERE p.node = ?1 AND p.state IN ('open', 'sealed')), 9223372036854775807)
RETURNING volume, number

-- name: snapshot_described
-- params: volume, number, pack
UPDATE snapshots SET pack = ?3 WHERE volume = ?1 AND number = ?2

-- name: snapshot_pin
-- params: volume, number, pinned
UPDATE snapshots SET pinned = ?3 WHERE volume = ?1 AND number = ?2 RETURNING id

-- name: snapshot_drop
-- params: volume, number
DELETE FROM snapshots WHERE volume = ?1 AND number = ?2

-- name: tag_add
-- params: volume, tag, number
INSERT INTO tags (volume, tag, number) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING

-- name: tag_move
-- params: volume, tag, number
DELETE FROM tags WHERE volume = ?1 AND tag = ?2 AND number <> ?3

-- name: tag_remove
-- params: volume, tag, number
DELETE FROM tags WHERE volume = ?1 AND tag = ?2 AND (number = ?3 OR ?3 = 0)

-- ============================================================== trees

-- SQLite has no figures to choose an index by: ``+since`` keeps it from reading rows one by one through entries_since.

-- Only the newest interval of a path is open: no other is looked at, however many there are.
-- name: entries_close
-- params: volume, path, number
UPDATE entries SET until = ?3 WHERE volume = ?1 AND path = ?2 AND until IS NULL
AND since = (SELECT max(since) FROM entries WHERE volume = ?1 AND path = ?2 AND since < ?3)

-- name: entries_close_all
-- params: volume, number
UPDATE entries SET until = ?2 WHERE volume = ?1 AND until IS NULL AND +since < ?2

-- Staged rows may be written again after a lost answer.
-- name: entry_add
-- params: volume, path, since, until, body
INSERT INTO entries (volume, path, since, until, body) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (volume, path, since) DO UPDATE SET body = excluded.body

-- name: segments_cut
-- params: volume, path, no, number
UPDATE segments SET until = ?4 WHERE volume = ?1 AND path = ?2 AND no >= ?3 AND until IS NULL AND since < ?4

-- name: segments_close
-- params: volume, path, no, number
UPDATE segments SET until = ?4 WHERE volume = ?1 AND path = ?2 AND no = ?3 AND until IS NULL
AND since = (SELECT max(since) FROM segments WHERE volume = ?1 AND path = ?2 AND no = ?3 AND since < ?4)

-- name: segments_close_all
-- params: volume, number
UPDATE segments SET until = ?2 WHERE volume = ?1 AND until IS NULL AND +since < ?2

-- name: segment_add
-- params: volume, path, no, since, until, ids
INSERT INTO segments (volume, path, no, since, until, ids) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (volume, path, no, since) DO UPDATE SET ids = excluded.ids

-- name: entries_unstage
-- params: volume, number
DELETE FROM entries INDEXED BY entries_since WHERE volume = ?1 AND since = ?2

-- name: entries_reopen
-- params: volume, number
UPDATE entries INDEXED BY entries_until SET until = NULL WHERE volume = ?1 AND until = ?2

-- name: segments_unstage
-- params: volume, number
DELETE FROM segments INDEXED BY segments_since WHERE volume = ?1 AND since = ?2

-- name: segments_reopen
-- params: volume, number
UPDATE segments INDEXED BY segments_until SET until = NULL WHERE volume = ?1 AND until = ?2

-- name: entries_fork
-- params: source, number, volume
INSERT INTO entries (volume, path, since, until, body)
SELECT ?3, path, 1, NULL, body FROM entries WHERE volume = ?1 AND +since <= ?2 AND (until IS NULL OR until > ?2)

-- name: segments_fork
-- params: source, number, volume
INSERT INTO segments (volume, path, no, since, until, ids)
SELECT ?3, path, no, 1, NULL, ids FROM segments WHERE volume = ?1 AND +since <= ?2 AND (until IS NULL OR until > ?2)

-- name: tree_of
-- params: volume, number, after, limit
SELECT body FROM entries WHERE volume = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2) AND path >= ?3
ORDER BY path LIMIT ?4

-- name: tree_below
-- params: volume, number, from, to, limit
SELECT body FROM entries WHERE volume = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2)
  AND path >= ?3 AND path < ?4 ORDER BY path LIMIT ?5

-- name: entry_of
-- params: volume, number, path
SELECT body FROM (
  SELECT body, until FROM entries WHERE volume = ?1 AND path = ?3 AND since <= ?2 ORDER BY since DESC LIMIT 1
) e WHERE until IS NULL OR until > ?2

-- What is staged is not told.
-- name: history_of
-- params: volume, path
SELECT e.since, CASE WHEN e.until <= v.newest THEN e.until END, e.body FROM entries e JOIN volumes v ON v.id = e.volume
WHERE e.volume = ?1 AND e.path = ?2 AND e.since <= v.newest ORDER BY e.since

-- name: segments_of
-- params: volume, number, paths
SELECT path, no, ids FROM segments WHERE volume = ?1 AND +since <= ?2 AND (until IS NULL OR until > ?2)
  AND path IN (SELECT unhex(value) FROM json_each(?3)) ORDER BY path, no

-- name: segments_all
-- params: volume, number
SELECT path, no, ids FROM segments WHERE volume = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2)
ORDER BY path, no

-- name: entries_between
-- params: volume, low, high
SELECT since, until, body FROM entries WHERE volume = ?1 AND since > ?2 AND since <= ?3
UNION ALL SELECT since, until, body FROM entries WHERE volume = ?1 AND until > ?2 AND until <= ?3 AND since <= ?2

-- name: segments_between
-- params: volume, low, high
SELECT path, no, since, until, ids FROM segments WHERE volume = ?1 AND since > ?2 AND since <= ?3
UNION ALL
SELECT path, no, since, until, ids FROM segments WHERE volume = ?1 AND until > ?2 AND until <= ?3 AND since <= ?2

-- The snapshots around one that was dropped: nothing lies between them any more.
-- name: snapshots_beside
-- params: volume, number
SELECT coalesce((SELECT max(number) FROM snapshots WHERE volume = ?1 AND number < ?2), 0),
  (SELECT min(number) FROM snapshots WHERE volume = ?1 AND number > ?2)

-- Intervals between two neighbouring snapshots. Open ones, and those of a snapshot that is being staged, end later.
-- name: entries_prune
-- params: volume, before, after
DELETE FROM entries INDEXED BY entries_until WHERE volume = ?1 AND until > ?2 AND until <= ?3 AND since > ?2 RETURNING since

-- name: segments_prune
-- params: volume, before, after
DELETE FROM segments INDEXED BY segments_until WHERE volume = ?1 AND until > ?2 AND until <= ?3 AND since > ?2 RETURNING since

-- name: entries_page
-- params: volume, path, since, limit
SELECT volume, path, since, until, body FROM entries WHERE (volume, path, since) > (?1, ?2, ?3)
ORDER BY volume, path, since LIMIT ?4

-- name: segments_page
-- params: volume, path, no, since, limit
SELECT volume, path, no, since, until, ids FROM segments WHERE (volume, path, no, since) > (?1, ?2, ?3, ?4)
ORDER BY volume, path, no, since LIMIT ?5

-- name: snapshot_count
-- params: volume
SELECT count(*) FROM snapshots WHERE volume = ?1 OR ?1 = ''

-- ============================================================== chunks and packs

-- name: chunk_add
-- params: id, pack, start, length, raw
INSERT INTO chunks (id, pack, start, length, raw) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id, pack) DO NOTHING

-- name: chunks_known
-- params: ids, node
SELECT DISTINCT c.id FROM (SELECT unhex(value) AS id FROM json_each(?1)) w JOIN chunks c ON c.id = w.id JOIN packs p ON p.id = c.pack
WHERE p.state = 'stored' OR (p.state IN ('open', 'sealed') AND p.node = ?2)

-- The best copy of a chunk comes first: not condemned, of that node, stored.
-- name: chunks_at
-- params: ids, node
SELECT c.id, c.pack, c.start, c.length, c.raw FROM (SELECT unhex(value) AS id FROM json_each(?1)) w
JOIN chunks c ON c.id = w.id JOIN packs p ON p.id = c.pack
ORDER BY (p.state = 'condemned'), (p.node <> ?2), (p.state <> 'stored'), p.id

-- Those that may be referred to. Their packs are held until the commit, so that none is condemned before it.
-- name: chunks_held
-- params: ids
SELECT c.id FROM (SELECT unhex(value) AS id FROM json_each(?1)) w JOIN chunks c ON c.id = w.id JOIN packs p ON p.id = c.pack
WHERE p.state <> 'condemned'

-- name: chunks_of_pack
-- params: pack
SELECT id, pack, start, length, raw FROM chunks WHERE pack = ?1 ORDER BY start

-- name: chunks_forget
-- params: pack
DELETE FROM chunks WHERE pack = ?1

-- A pack's state only goes forward here: open, sealed, stored.
-- name: pack_put
-- params: id, node, state, size, created_at, stored_at, condemned_at
INSERT INTO packs (id, node, state, size, created_at, stored_at, condemned_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, size = excluded.size
WHERE packs.state = 'open' AND (excluded.state <> 'open' OR excluded.size > packs.size)

-- name: pack_stored
-- params: id, now
UPDATE packs SET state = 'stored', stored_at = ?2 WHERE id = ?1 AND state IN ('open', 'sealed') RETURNING id, node

-- name: pack_condemn
-- params: id, at
UPDATE packs SET state = 'condemned', condemned_at = ?2 WHERE id = ?1 AND state = 'stored'

-- name: pack_reprieve
-- params: id
UPDATE packs SET state = 'stored', condemned_at = NULL WHERE id = ?1 AND state = 'condemned'

-- Held until the commit.
-- name: pack_state
-- params: id
SELECT state FROM packs WHERE id = ?1

-- name: pack_forget
-- params: id
DELETE FROM packs WHERE id = ?1

-- name: packs_all
-- params:
SELECT id, node, state, size, created_at, stored_at, condemned_at FROM packs ORDER BY created_at, id

-- ============================================================== the journal

-- name: position_of
-- params: agent
SELECT r.id, coalesce((SELECT max(seq) FROM steps s WHERE s.run = r.id), 0) FROM runs r
WHERE r.agent = ?1 AND r.finished_at IS NULL

-- ============================================================== a store that came back from a copy

-- name: entries_clear
-- params:
DELETE FROM entries

-- name: segments_clear
-- params:
DELETE FROM segments

-- name: tags_clear
-- params:
DELETE FROM tags

-- name: snapshots_clear
-- params:
DELETE FROM snapshots

-- name: volumes_clear
-- params:
DELETE FROM volumes

-- name: chunks_clear
-- params:
DELETE FROM chunks

-- name: packs_clear
-- params:
DELETE FROM packs

-- name: store_identity_set
-- params: id
INSERT INTO meta (key, value) VALUES ('store_id', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: store_generation_set
-- params: generation
INSERT INTO meta (key, value) VALUES ('store_generation', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
