"""SQLite through apsw: WAL, synchronous=FULL, one writer thread that commits everything waiting at once."""
