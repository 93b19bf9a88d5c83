"""The kinds of agents that relit knows: what each needs, and how it is installed."""
