"""CSV and TSV: Common Voice's tables, metadata.csv, and any other with a header."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from echo.data.named import TABLES
from echo.data.sources.files import Recordings, check_encoding, read_lines
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import NUMBERS, Columns, Keys, Row, Rows
from echo.support.errors import DataError

DELIMITERS = (",", ";", "\t", "|")  # the usual one of the file's suffix is tried first


class TableReader(Reader):
    suffixes: tuple[str, ...] = TABLES
    marks: tuple[str, ...] = ("metadata.csv",)

    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Recordings lie in `clips/` beside the table, or beside it."""
        path = self.file(spec)
        delimiter = delimiter_of(path, options.columns)
        if path.suffix.lower() == ".tsv" and not is_quoted(path, delimiter):
            # As Common Voice writes them: no quoting, and a sentence may hold a lone quote mark.
            reader = csv.reader(read_lines(path), delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            # Strict, or an unclosed quote would swallow the rows after it without a word.
            reader = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
        header, keys = read_header(path, reader, options.columns)
        folders = (path.parent / "clips", path.parent)
        recordings = Recordings(folders, (path.parent.resolve(),), options.allow_outside)
        while True:
            where = f"{path}:{reader.line_num + 1}"  # a quoted cell may go on over further lines
            try:
                cells = next(reader)
                check_encoding("".join(cells))
            except StopIteration:
                return
            except csv.Error as error:
                yield DataError(f"{where}: is not CSV ({error}), up to line {reader.line_num}")
                continue
            except DataError as error:
                yield DataError(f"{where}: {error}")
                continue
            if not cells:  # a blank line
                continue
            if len(cells) != len(header):
                yield DataError(f"{where}: has {len(cells)} columns, but the header {len(header)}")
                continue
            record: dict[str, Any] = dict(zip(header, cells, strict=True))
            if keys.text and not record[keys.text]:
                if options.columns.needs_text:
                    yield DataError(
                        f"{where}: {keys.text!r} is empty, which in a table may also mean that it "
                        "is missing; write recordings without speech into a .jsonl, with "
                        '"text": ""'
                    )
                    continue
                record[keys.text] = None
            for key in NUMBERS:
                with suppress(KeyError, ValueError):  # what is no number is refused later
                    record[key] = float(record[key])
            yield Row(where, record, recordings.of, options.columns)


def delimiter_of(path: Path, columns: Columns) -> str:
    """Returns the delimiter by which the header names the columns; the usual one where none does,
    as for a file that is no table."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    for delimiter in (usual, *DELIMITERS):
        with suppress(DataError):
            read_header(path, csv.reader(read_lines(path), delimiter=delimiter), columns)
            return delimiter
    return usual


def is_quoted(path: Path, delimiter: str) -> bool:
    """Tells whether quote marks enclose cells, as pandas, Excel and csv.writer write them, or are
    part of the text, as in Common Voice, where a cell may begin with one as well.

    They enclose cells if that accounts for every one of them: those around the cells that need
    it, and within these two for each one of the text."""
    around = sum(line.count('"') for line in read_lines(path))
    if not around:
        return False
    cells = must = may = 0  # how many there are, must be enclosed, or may be by some programs
    try:
        rows = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
        for cell in chain.from_iterable(rows):
            if "\n" in cell and delimiter in cell:  # two lone marks with whole rows between them
                return False
            around -= 2 * cell.count('"')
            cells += 1
            if any(character in cell for character in f'"{delimiter}\r\n'):
                must += 1
            elif "," in cell:
                may += 1
    except csv.Error:
        return False
    if next(read_lines(path)).startswith('"'):  # the header needs none, so all cells may have them
        return 2 * must <= around <= 2 * cells
    return 0 < 2 * must <= around <= 2 * (must + may)


def read_header(
    path: Path, reader: Iterator[list[str]], columns: Columns
) -> tuple[list[str], Keys]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{path}:1: is not CSV ({error})") from None
    try:
        check_encoding("".join(header))
        keys = columns.of_table(header)
        for name in header:
            if name in (*keys, *NUMBERS, "id") and header.count(name) > 1:
                raise DataError(f"has the column {name!r} twice")
    except DataError as error:
        raise DataError(f"{path}:1: {error}") from None
    return header, keys
