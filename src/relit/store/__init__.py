"""Rows (SQLite, PostgreSQL) and blobs (folder, S3)."""
