"""Keeps the rows of a data set that a model can learn from."""
