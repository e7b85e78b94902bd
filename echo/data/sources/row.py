"""What a source says of an utterance: which column of a row holds what, and the checks on its cells
that make it one, which all readers share."""

import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple, TypeGuard

from echo.data.audio import SLICE_TOLERANCE, Audio, AudioChannel, AudioSlice, channel_name, clock
from echo.data.mixing import MAX_CHANNELS
from echo.data.utterance import Utterance, about_equal
from echo.support.errors import DataError, tried

Record = Mapping[str, Any]

# The usual names, the likeliest first: NeMo's manifests, Hugging Face's data sets, Common Voice.
# A hub data set's `audio` comes before its `path`, which need not exist on this machine.
AUDIO = ("audio_filepath", "audio", "file_name", "path")
TEXT = ("text", "sentence", "transcription", "transcript")
SPEAKER = ("speaker", "client_id", "speaker_id")

# Where a row's part of a recording begins and ends, in seconds: NeMo's manifests and lhotse's cuts.
STARTS = ("offset", "start")
END = "end"
# Where the speech lay in some recording, in seconds. Multilingual LibriSpeech, GigaSpeech and AMI
# say so of files that are cut already, so the header tells whether the row means a part.
PLACES = (("begin_time", "end_time"), ("start_time", "end_time"))
OF_PARTS = frozenset((*STARTS, END, *chain(*PLACES)))
NUMBERS = ("duration", *STARTS, END, "begin_time", "start_time", "end_time")
CHANNEL = "channel"  # the only one of a recording that a row means
CHANNEL_NUMBERS = {name: i for i in range(MAX_CHANNELS) for name in (str(i), channel_name(i))}
# And the columns of audio, text and speaker.
USED = frozenset(("duration", "id", *STARTS, END, CHANNEL))

NESTED = (dict, list, bytes)  # what is no single value
MAX_NAMED = 30  # columns in a message


class Keys(NamedTuple):
    """The columns found in one table or row."""

    audio: str
    text: str | None
    speaker: str | None


@dataclass(frozen=True)
class Columns:
    """The columns (or JSON keys) to read; None takes the first of the usual names present."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    needs_text: bool = True  # whether each row must have a text; without one it is read as ""

    def among(self, found: Collection[str]) -> Keys:
        """Picks from the column names that a source has. DataError if a named one is absent, if
        there is none for audio or a text that is needed, or if they are one."""
        return keys_among(self, tuple(found))

    def of_table(self, header: Collection[str]) -> Keys:
        """Does as `among` for the columns that all rows have, of which a named one must be one. A
        row by itself may lack its text where none is needed."""
        if self.text:
            pick("text", (self.text,), header)
        return self.among(header)


@lru_cache(maxsize=4096)  # most rows of a source have the same columns
def keys_among(columns: Columns, found: tuple[str, ...]) -> Keys:
    audio = pick("audio", (columns.audio,) if columns.audio else AUDIO, found)
    texts = (columns.text,) if columns.text else TEXT
    if columns.needs_text:
        text: str | None = pick("text", texts, found)
    else:
        text = next((name for name in texts if name in found), None)
    speaker = next((name for name in SPEAKER if name in found), None)
    keys = Keys(
        audio=audio,
        text=text,
        speaker=pick("speaker", (columns.speaker,), found) if columns.speaker else speaker,
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


def text_of(record: Record, key: str | None, is_needed: bool = True) -> str:
    """Returns the transcript. An empty one says that nobody speaks; a missing one says nothing."""
    text = None if key is None else record[key]
    if text is None:
        if is_needed:
            raise DataError(f"{key!r} is missing")
        return ""
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


def seconds_of(record: Record, key: str) -> float | None:
    """Returns the seconds that a column holds, if the record says so."""
    seconds = record.get(key)
    if seconds is None or seconds == "":
        return None
    if not is_seconds(seconds) or (key == "duration" and seconds == 0):
        raise DataError(f"{key!r} must be a number of seconds, not {reprlib.repr(seconds)}")
    return float(seconds)


def is_seconds(value: Any) -> TypeGuard[float]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < 1e9  # the upper bound refuses infinity, too


def channel_of(record: Record, audio: Audio) -> Audio:
    """Returns the channel of a recording that a row means, or all of it."""
    told = record.get(CHANNEL)
    if told is None or told == "":
        return audio
    name = str(told).lower().removesuffix(".0")  # of floats, which tables with gaps have
    number = CHANNEL_NUMBERS.get(name)
    if number is None:
        raise DataError(
            f"{CHANNEL!r} must be left, right, or the number of a channel, counted from 0, not "
            f"{reprlib.repr(told)}: rename the column if it is about something else"
        )
    return AudioChannel(audio, number)


def part_of(record: Record, audio: Audio, duration: float | None) -> Audio:
    """Returns the part of a recording that a row means, or all of it. DataError where the row
    contradicts itself or the recording's header."""
    if OF_PARTS.isdisjoint(record):
        return audio
    starts = {key: at for key in STARTS if (at := seconds_of(record, key)) is not None}
    end = seconds_of(record, END)
    if not starts and end is None:
        return described_part(record, audio, duration)
    if len({clock(at) for at in starts.values()}) > 1:
        raise DataError("'offset' and 'start' must be the same, or one of them left out")
    start = next(iter(starts.values()), 0.0)
    if end is None:
        if duration is None:
            return AudioSlice(audio, start) if start else audio
        return AudioSlice(audio, start, start + duration)
    return between(audio, start, end, duration, END)


def described_part(record: Record, audio: Audio, duration: float | None) -> Audio:
    """Returns the part that lies where the row says that its speech lay; all of a recording that
    lasts no longer than that speech."""
    for first, last in PLACES:
        start, end = record.get(first), record.get(last)
        if not (is_seconds(start) and is_seconds(end) and start < end):
            continue
        seconds = audio.seconds()
        if about_equal(end - start, seconds):
            return audio
        if end > seconds + SLICE_TOLERANCE:
            raise DataError(
                f"the recording lasts {seconds:.2f} s, so it is neither what lies from {first!r} "
                f"to {last!r} nor holds it: rename these columns if they are about something else"
            )
        return between(audio, start, end, duration, last)
    return audio


def between(audio: Audio, start: float, end: float, duration: float | None, name: str) -> Audio:
    """Returns the part from `start` to `end`, a column of that name. DataError where the part is
    empty, or not as long as the row says."""
    if end <= start:
        raise DataError(f"{name!r} must be after the start, {clock(start)} s, not {clock(end)} s")
    if duration is not None and abs(end - start - duration) > SLICE_TOLERANCE:
        raise DataError(
            f"'duration' is {clock(duration)} s, but the part that the row means lasts "
            f"{clock(end - start)} s"
        )
    return AudioSlice(audio, start, end)


def nested_columns(row: "Row") -> list[str]:
    """Returns the further columns that an utterance cannot hold."""
    keys = row.columns.among(row.record)
    return [k for k, value in row.record.items() if isinstance(value, NESTED) and k not in keys]


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

    @property
    def has_text(self) -> bool:
        """Whether it says what is said: it may also say that nobody speaks."""
        key = self.columns.among(self.record).text
        return key is not None and self.record[key] is not None

    def utterance(self) -> Utterance:
        """Raises DataError for the first column that cannot be used. Nothing is decoded, and a
        header is read only where the row gives no duration, so that a long manifest opens fast."""
        record = self.record
        keys = self.columns.among(record)
        text = text_of(record, keys.text, self.columns.needs_text)
        duration = seconds_of(record, "duration")
        whole = channel_of(record, self.find(record, keys.audio))
        audio = part_of(record, whole, duration)
        extra = {
            key: value
            for key, value in record.items()
            if key not in USED and key not in keys and not isinstance(value, NESTED)
        }
        name = self.id or str(record[keys.audio])
        if (part := audio.as_slice()) and part.end is not None:
            duration = part.end - part.start
        channel = audio.only_channel()
        if (part or channel is not None) and self.id is None:  # named by its recording, of which
            extra = {"recording": name} | extra  # there are other parts
            if channel is not None:
                name = f"{name}@{channel_name(channel)}"
            if part:
                name = f"{name}@{clock(part.start)}-{'' if part.end is None else clock(part.end)}"
        return Utterance(
            id=label_of(record, "id") or name,
            audio=audio,
            text=text,
            duration=duration or audio.seconds(),
            speaker=label_of(record, keys.speaker),
            where=self.where,
            extra=extra,
            language=label_of(record, "language"),
            task=label_of(record, "task"),
        )


Rows = Iterable[Row | DataError]


def utterances(rows: Rows) -> Iterator[Utterance | DataError]:
    """Checks every row: an utterance, or the reason why it is none."""
    return (row if isinstance(row, DataError) else checked(row) for row in rows)


def checked(row: Row) -> Utterance | DataError:
    return tried(row.where, row.utterance)
