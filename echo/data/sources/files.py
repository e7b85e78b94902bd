"""What the readers share: the lines of text files, and recordings on disk that rows name."""

import gzip
import reprlib
import stat
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from echo.data.audio import Audio, AudioFile
from echo.data.sources.member import member_of
from echo.data.sources.row import Record, storable
from echo.support.errors import DataError
from echo.support.files import folder_of, leads_into, refuse_pipe


@dataclass(frozen=True)
class Recordings:
    """Where a source looks for the recordings that it names, one folder after another, and the
    folders (resolved) in which they must lie: otherwise a source made by others could have any file
    of this machine read as audio."""

    folders: tuple[Path, ...]
    roots: tuple[Path, ...]
    allow_outside: bool = False

    def of(self, record: Record, column: str) -> Audio:
        """Returns the recording whose path the record's audio column gives, or the one that it
        means in a tar shard of that path. DataError where there is none."""
        name = record[column]
        if not isinstance(name, str) or not name:
            raise DataError(f"{column!r} must be a path, not {reprlib.repr(name)}")
        path = self.find(name)
        storable(name, column)
        return member_of(record, path) or AudioFile(path)

    def find(self, name: str) -> Path:
        """Returns the recording of that name, relative to one of the folders or absolute. DataError
        if there is none, if it is empty, or if it lies outside."""
        for path in (folder / each for each in spellings(name) for folder in self.folders):
            # An absolute name stays as it is.
            try:
                status = path.lstat()
                is_link = stat.S_ISLNK(status.st_mode)
                if is_link:
                    status = path.stat()
            except (OSError, ValueError):  # ValueError: a name that no file can have
                continue
            if stat.S_ISREG(status.st_mode):
                place = folder_of(path.resolve() if is_link else path)
                if not self.allow_outside and not leads_into(place, self.roots):
                    places = " or ".join(repr(str(root)) for root in self.roots)
                    raise DataError(
                        f"the recording {str(path)!r} is outside of {places}: to allow that, set "
                        "data.allow_outside=true, or give --allow-outside"
                    )
                if status.st_size == 0:
                    raise DataError(f"the recording {str(path)!r} is empty")
                return path
        places = " or ".join(repr(str(folder)) for folder in self.folders)
        raise DataError(f"no recording {reprlib.repr(name)} in {places}")


def spellings(name: str) -> Iterator[str]:
    """Yields a name, and then the same text in Unicode's other forms: macOS writes an accent as a
    character of its own (NFD), where other systems and most manifests do not (NFC)."""
    yield name
    for form in ("NFC", "NFD"):
        if (other := unicodedata.normalize(form, name)) != name:
            yield other


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, each with its end; of a .gz, those it holds compressed.

    Bytes that are not UTF-8 come as half surrogate pairs: `check_encoding` finds them, so that
    one bad line does not lose the others.

    Raises:
        DataError: the file cannot be read.
    """
    number = 0
    try:
        refuse_pipe(path)
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: is cut off or damaged after line {number} ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def check_encoding(text: str) -> None:
    """Raises DataError for text in which `read_lines` met bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("is not UTF-8 text") from None
