"""Utterances in columns are the utterances that were put into them."""

import datetime
import pickle
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from echo.data.audio import AudioBytes, AudioChannel, AudioFile, AudioSlice
from echo.data.columns import BLOCK, Joined, Utterances, cell, cells
from echo.data.examples import ExampleReader, check_utterances
from echo.data.fingerprint import describe, ordered_fingerprint
from echo.data.sources import read_source
from echo.data.sources.read import scan_source
from echo.data.tokenizer import load_tokenizer, train_tokenizer
from echo.data.utterance import Utterance
from echo.model.geometry import Limits
from echo.support.errors import DataError

RECORDING = AudioBytes(b"RIFF", "held")
ROWS = [
    Utterance("a", AudioFile(Path("x/a.wav")), "zwölf, ja", 1.25, "s1", "m.jsonl:1"),
    Utterance("b#2", AudioSlice(AudioFile(Path("/y.flac")), 0.5, 2.75), "", 2.25, language="de"),
    Utterance("c", RECORDING, "one", 1.0, task="translate", extra={"n": None, "list": 1.5}),
    Utterance("d", AudioSlice(RECORDING, 3.0), "two", 0.1 + 0.2, extra={"day": datetime.date.min}),
    Utterance("e", AudioChannel(AudioFile(Path("a.wav")), 0), "left", 2.0),
    Utterance("f", AudioSlice(AudioChannel(RECORDING, 1), 0.5, 1.0), "right", 0.5),
    Utterance("\udce9", AudioFile(Path("\udce9.wav")), "three", 9.0, where="\udce9:3", set="dev"),
]


def test_what_goes_in_comes_out():
    held = Utterances.of(ROWS)
    assert list(held) == ROWS == [held[i] for i in range(7)] == [held[i] for i in range(-7, 0)]
    assert list(held[1:4]) == ROWS[1:4]
    assert list(held.take([4, 0, 0])[::-1]) == [ROWS[0], ROWS[0], ROWS[4]]
    assert list(pickle.loads(pickle.dumps(held[3:]))) == ROWS[3:]
    assert list(Utterances.of([])) == []
    with pytest.raises(IndexError):
        held[7]


def test_cells_are_those_of_objects():
    names = ("id", "text", "duration", "start", "speaker", "extra", "where", "channel")
    told = [tuple(cell(row, name) for name in names) for row in ROWS]
    held = Utterances.of(ROWS)
    assert [*cells(held, *names)] == [*cells(ROWS, *names)] == told
    assert [*cells(Joined([held[3:], ROWS[:3]]), *names)] == told[3:] + told[:3]
    assert describe(held) == describe(ROWS)
    assert ordered_fingerprint(held) == ordered_fingerprint(ROWS) != ordered_fingerprint(held[::-1])


def test_recordings_are_changed_when_they_are_used():
    held = Utterances.of(ROWS).with_audio(partial(AudioSlice, start=1.0))
    assert list(held[:2]) == [replace(row, audio=AudioSlice(row.audio, 1.0)) for row in ROWS[:2]]


def test_sequences_that_are_joined_are_one():
    joined = Joined([ROWS[:2], [], Utterances.of(ROWS[2:])])
    assert list(joined) == list(joined[:]) == [joined[i] for i in range(7)] == ROWS
    assert joined[-1] == ROWS[-1]
    with pytest.raises(IndexError):
        joined[7]


def test_a_source_of_many_blocks_is_read_in_its_order(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    count = 2 * BLOCK + 3
    lines = [
        f'{{"audio_filepath": "a.wav", "duration": {1 + i % 7}, "text": "t{i}"}}\n'
        for i in range(count)
    ]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    scanned = [*scan_source(str(tmp_path / "m.jsonl"))]
    found = read_source(str(tmp_path / "m.jsonl"))
    assert [replace(row, id="a.wav") for row in found] == scanned
    assert len({row.id for row in found}) == count


@pytest.mark.parametrize("name", ["whisper", "characters", "bpe"])
def test_what_fits_for_sure_would_fit_when_checked(shared, name):
    """Rows at the limits of length, and with special tokens, are judged as one by one."""
    if name == "whisper":
        tokenizer = load_tokenizer(shared / "models" / "whisper-tiny.en")
    else:
        tokenizer = train_tokenizer(["one two three"], name)
    draw = random.Random(0)
    words = [
        "one",
        "two",
        "<|endoftext|>",
        "<|1.00|>",
        "zwölf",
        "e\u0301",
        "  ",
        "\u3000",
        "\u2028",
    ]
    rows = [
        replace(
            ROWS[0],
            id=str(i),
            text="".join(draw.choices(words, [9, 9, 1, 1, 3, 3, 3, 1, 1], k=draw.randint(0, 12))),
            duration=draw.choice([1.0, 2.995, 3.0, 3.004]),
            language=draw.choice([None, None, None, "en", "xx"]),
        )
        for i in range(300)
    ]
    reader = ExampleReader(tokenizer, Limits(80, 300, 24))
    fitting = []
    for row in rows:
        try:
            reader.check(row)
            fitting.append(row)
        except DataError:
            pass
    assert 0 < len(fitting) < len(rows)
    assert list(check_utterances(Utterances.of(rows), reader, "skip")) == fitting
