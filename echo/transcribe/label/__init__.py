"""Labelling recordings with what a model hears, in any number of processes."""
