"""Measures every row of a data set, in processes, and keeps what was measured, so that it is done
once for each recording and text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from echo.data.prepare.filter.sound import Sound, measure_sound
from echo.data.prepare.filter.wording import Wording, measure_text
from echo.data.prepare.kept_lines import KeptLines
from echo.data.prepare.workers import done_with
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.progress import progress_bar

MEASURED_AHEAD = 8  # rows by each worker: one takes milliseconds
VERSION = 1  # of what is measured: another one is measured again


@dataclass(frozen=True, slots=True)
class Measured:
    utterance: Utterance
    sound: Sound
    text: Wording


def measure_rows(
    rows: Sequence[Utterance | DataError], file: Path | None, workers: int, progress: bool = False
) -> list[Measured | DataError]:
    """Measures rows, in their order. What a file holds already is not measured again, and what is
    new is added to it at once, so that work that was stopped goes on. In the end the file holds the
    measures of these rows alone. Without workers, this process measures."""
    kept = KeptLines(file)
    keys = [key_of(row) for row in rows]
    known = {
        key: (Sound(**kept.entries[key]["sound"]), Wording(**kept.entries[key]["text"]))
        for key in keys
        if key in kept.entries
    }
    pending = [i for i, key in enumerate(keys) if key not in known]
    found: dict[int, Measured | DataError] = {}
    measured = done_with(
        [rows[i] for i in pending], measure, min(workers, len(pending)), MEASURED_AHEAD
    )
    bar = progress_bar(measured, total=len(pending), desc="measuring", unit=" rows", shown=progress)
    for i, result in zip(pending, bar, strict=True):
        row, key = rows[i], keys[i]
        if isinstance(result, DataError) or isinstance(row, DataError):
            assert isinstance(result, DataError)
            found[i] = result
            continue
        found[i] = Measured(row, *result)
        if key is not None:
            sound, text = map(asdict, result)
            kept.add(key, {"id": row.id, "sound": sound, "text": text})
    for i, (row, key) in enumerate(zip(rows, keys, strict=True)):
        if i not in found:
            assert isinstance(row, Utterance)
            assert key is not None
            found[i] = Measured(row, *known[key])
    kept.only(key for key in keys if key is not None)
    return [found[i] for i in range(len(rows))]


def key_of(row: Utterance | DataError) -> str | None:
    """Returns what the measures of a row depend on, in brief; None where that cannot be told."""
    if isinstance(row, DataError):
        return None
    try:
        identity = row.audio.identity()
    except DataError:
        return None
    if identity is None:
        return None
    content = b"%d %d %b %b" % (VERSION, len(identity), identity, row.text.encode())
    return blake2b(content, digest_size=16).hexdigest()


def measure(row: Utterance) -> tuple[Sound, Wording]:
    return measure_sound(row.audio, row.id), measure_text(row.text)
