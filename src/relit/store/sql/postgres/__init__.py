"""PostgreSQL through asyncpg: one writer that commits everything waiting at once, each statement once with arrays."""
