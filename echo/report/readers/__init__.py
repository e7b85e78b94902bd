"""Reads every kind of result into one form; each kind has a file."""

from echo.report.readers.read import read_result

__all__ = ["read_result"]
