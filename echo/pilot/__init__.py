"""Pilots: several models trained in turn and compared."""
