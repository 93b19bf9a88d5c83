"""Small things every layer may use: clock, ids, back-off, durations, service lifecycle, process identity."""
