"""What a source says of an utterance: which column of a row holds what, and the checks on its cells
that make it one, which all readers share."""

import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from echo.data.audio import Audio
from echo.data.utterance import Utterance
from echo.support.errors import DataError

Record = Mapping[str, Any]

# The usual names, the likeliest first: NeMo's manifests, Hugging Face's data sets, Common Voice.
# A hub data set's `audio` comes before its `path`, which need not exist on this machine.
AUDIO = ("audio_filepath", "audio", "file_name", "path")
TEXT = ("text", "sentence", "transcription", "transcript")
SPEAKER = ("speaker", "client_id", "speaker_id")

MAX_NAMED = 30  # columns in a message


class Keys(NamedTuple):
    """The columns found in one table or row."""

    audio: str
    text: str
    speaker: str | None


@dataclass(frozen=True)
class Columns:
    """The columns (or JSON keys) to read; None takes the first of the usual names present."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None

    def among(self, found: Collection[str]) -> Keys:
        """Picks from the column names that a source has. DataError if a named one is absent, if
        there is none for audio or text, or if they are one."""
        speaker = next((name for name in SPEAKER if name in found), None)
        keys = Keys(
            audio=pick("audio", (self.audio,) if self.audio else AUDIO, found),
            text=pick("text", (self.text,) if self.text else TEXT, found),
            speaker=pick("speaker", (self.speaker,), found) if self.speaker else speaker,
        )
        if keys.audio == keys.text:
            raise DataError(f"{keys.audio!r} cannot be both the audio and the text column")
        return keys


USUAL = Columns()


def pick(role: str, names: tuple[str, ...], found: Collection[str]) -> str:
    for name in names:
        if name in found:
            return name
    wanted = " or ".join(repr(name) for name in names)
    have = ", ".join(reprlib.repr(name) for name in islice(found, MAX_NAMED)) or "nothing"
    if len(found) > MAX_NAMED:
        have += f" and {len(found) - MAX_NAMED} more"
    raise DataError(f"no {role} column: expected {wanted}, found {have}")


def text_of(record: Record, key: str) -> str:
    """Returns the transcript. An empty one says that nobody speaks; a missing one says nothing."""
    text = record[key]
    if text is None:
        raise DataError(f"{key!r} is missing")
    if not isinstance(text, str):
        raise DataError(f"{key!r} must be a string, not {reprlib.repr(text)}")
    if text and not text.strip():
        raise DataError(f"{key!r} is blank: if nobody speaks, it must be the empty string")
    return storable(text.strip(), key)


def label_of(record: Record, key: str | None) -> str | None:
    """Returns a name such as a speaker's or an utterance's; corpora often number them."""
    label = None if key is None else record.get(key)
    if label is None or label == "":
        return None
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise DataError(f"{key!r} must be a string or a whole number, not {reprlib.repr(label)}")
    return storable(str(label), key)


def storable(text: str, key: str | None) -> str:
    """Returns the text itself, where files and logs can hold it."""
    if "\0" in text:  # UTF-16 read as UTF-8, or a damaged file
        raise DataError(f"{key!r} holds a NUL character: {reprlib.repr(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which nothing can write
        raise DataError(f"{key!r} is not valid Unicode: {reprlib.repr(text)}") from None
    return text


def duration_of(record: Record) -> float | None:
    """Returns the seconds, if the record says so."""
    seconds = record.get("duration")
    if seconds is None or seconds == "":
        return None
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < 1e9:  # the upper bound refuses infinity, too
        raise DataError(f"'duration' must be a number of seconds, not {reprlib.repr(seconds)}")
    return float(seconds)


def extra_of(record: Record, keys: Keys) -> dict[str, Any]:
    """Returns the further columns that hold a single value."""
    used = {*keys, "duration", "id"}
    return {
        key: value
        for key, value in record.items()
        if key not in used and not isinstance(value, (dict, list, bytes))
    }


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

    def utterance(self) -> Utterance:
        """Raises DataError for the first column that cannot be used. Nothing is decoded, and a
        header is read only where the row gives no duration, so that a long manifest opens fast."""
        record = self.record
        keys = self.columns.among(record)
        text = text_of(record, keys.text)
        audio = self.find(record, keys.audio)
        return Utterance(
            id=label_of(record, "id") or self.id or str(record[keys.audio]),
            audio=audio,
            text=text,
            duration=duration_of(record) or audio.seconds(),
            speaker=label_of(record, keys.speaker),
            where=self.where,
            extra=extra_of(record, keys),
            language=label_of(record, "language"),
            task=label_of(record, "task"),
        )


Rows = Iterable[Row | DataError]


def utterances(rows: Rows) -> Iterator[Utterance | DataError]:
    """Checks every row: an utterance, or the reason why it is none."""
    for row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        try:
            yield row.utterance()
        except DataError as error:
            yield DataError(f"{row.where}: {error}")
