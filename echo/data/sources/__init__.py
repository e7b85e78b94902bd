"""Readers: every kind of source that data comes in, as utterances."""

from echo.data.sources.columns import Columns
from echo.data.sources.read import read_source, scan_source, stream_source

__all__ = ["Columns", "read_source", "scan_source", "stream_source"]
