"""Training: a run's loop, steps, losses, optimiser and records."""
