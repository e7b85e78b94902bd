"""Exports of a model for other programs, one target a file."""
