"""What a source says of an utterance, and the one place where an utterance is made of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from echo.data.audio import Audio
from echo.data.sources.columns import (
    USUAL,
    Columns,
    Record,
    duration_of,
    extra_of,
    label_of,
    text_of,
)
from echo.data.utterance import Utterance
from echo.support.errors import DataError


def in_record(record: Record, column: str) -> Audio:
    """Returns the recording of a row that holds it in its audio column."""
    audio = record[column]
    assert isinstance(audio, Audio), f"{column!r} holds no Audio, so the Row needs a `find`"
    return audio


@dataclass(frozen=True)
class Row:
    """One row of a source, with nothing checked yet."""

    where: str  # "train.jsonl:12", for messages
    record: Record  # its columns by name
    # Finds the recording by the record and the name of its audio column, without decoding it;
    # raises DataError where there is none. For paths of files this is `Recordings.of`.
    find: Callable[[Record, str], Audio] = in_record
    columns: Columns = USUAL  # which of the columns hold audio, text and speaker
    id: str | None = None  # where the record has no "id"; None takes what the audio column says


Rows = Iterable[Row | DataError]


def utterances(rows: Rows) -> Iterator[Utterance | DataError]:
    """Checks every row: an utterance, or the reason why it is none.

    Nothing is decoded, and a header is read only where the row gives no duration, so that a long
    manifest opens fast.
    """
    for row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        try:
            yield utterance_of(row)
        except DataError as error:
            yield DataError(f"{row.where}: {error}")


def utterance_of(row: Row) -> Utterance:
    """Raises DataError for the first of the row's columns that cannot be used."""
    record = row.record
    keys = row.columns.among(record)
    text = text_of(record, keys.text)
    audio = row.find(record, keys.audio)
    return Utterance(
        id=label_of(record, "id") or row.id or str(record[keys.audio]),
        audio=audio,
        text=text,
        duration=duration_of(record) or audio.seconds(),
        speaker=label_of(record, keys.speaker),
        where=row.where,
        extra=extra_of(record, keys),
        language=label_of(record, "language"),
        task=label_of(record, "task"),
    )
