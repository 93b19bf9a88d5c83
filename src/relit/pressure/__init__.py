"""Many agents on one machine: what fits, what is measured, who has to wait."""
