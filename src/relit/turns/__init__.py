"""A message's way through an agent that relit did not write."""
