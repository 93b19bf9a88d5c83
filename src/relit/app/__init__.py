"""The composition root: the only place that chooses implementations and puts the parts together."""
