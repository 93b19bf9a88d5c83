"""Versioned volumes: an agent's home, restorable to any moment."""
