-- What a call asks, in digests of its parts: what a life asks otherwise than the one before can be told.
ALTER TABLE calls ADD COLUMN outline TEXT NOT NULL DEFAULT '';
