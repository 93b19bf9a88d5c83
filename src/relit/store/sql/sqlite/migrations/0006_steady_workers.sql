-- Workers that none of their runs can kill: deaths of theirs say little about a run.

ALTER TABLE workers ADD COLUMN steady INTEGER NOT NULL DEFAULT 0;
