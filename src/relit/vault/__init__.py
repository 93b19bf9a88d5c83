"""Secrets at rest: sealed, handed out to whom they are granted, and every use written down."""
