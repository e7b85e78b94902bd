"""Readers: every kind of source that data comes in, as utterances."""

from echo.data.sources.files import Recordings, read_lines
from echo.data.sources.read import (
    read_source,
    register_source,
    scan_rows,
    scan_shards,
    scan_source,
    stream_source,
)
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import Columns, Row

__all__ = [
    "Columns",
    "ReadOptions",
    "Reader",
    "Recordings",
    "Row",
    "read_lines",
    "read_source",
    "register_source",
    "scan_rows",
    "scan_shards",
    "scan_source",
    "stream_source",
]
