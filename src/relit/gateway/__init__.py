"""The model gateway: agents call their model through it, with a token of their own instead of the provider's key."""
