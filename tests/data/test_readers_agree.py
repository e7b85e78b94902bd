"""The same content is the same utterance, or refused in the same words, by whichever reader."""

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch

from echo.data.audio import AudioFile
from echo.data.sources import Columns, ReadOptions, read_source
from echo.support.errors import DataError

Record = dict[str, Any]

LANGUAGE = datasets.ClassLabel(names=["en", "de"])
SPEECH = np.random.default_rng(0).standard_normal(16_000) / 10


def table(path: Path, delimiter: str, record: Record) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(record), delimiter=delimiter)
        writer.writeheader()
        writer.writerow(record)
    return str(path)


def manifest(folder: Path, record: Record) -> str:
    (folder / "m.jsonl").write_text(json.dumps(record))
    return str(folder / "m.jsonl")


def tar(folder: Path, record: Record) -> str:
    (folder / "a.json").write_text(json.dumps(record))
    with tarfile.open(folder / "m.tar", "w") as file:
        for name in ("a.json", record["audio"]):
            file.add(folder / name, name)
    return str(folder / "m.tar")


def librispeech(folder: Path, record: Record) -> str:
    (folder / "m.trans.txt").write_text(f"a {record['text']}\n")
    return str(folder)


def dataset(folder: Path, record: Record, classes: bool) -> datasets.Dataset:
    content = (folder / record["audio"]).read_bytes()
    made = datasets.Dataset.from_list([{**record, "audio": {"bytes": content, "path": "a"}}])
    if classes and "language" in record:
        made = made.cast_column("language", LANGUAGE)
    return made


def saved(folder: Path, record: Record, classes: bool = False) -> str:
    dataset(folder, record, classes).save_to_disk(folder / "set")
    return str(folder / "set")


def parquet(folder: Path, record: Record, classes: bool = False) -> str:
    dataset(folder, record, classes).to_parquet(folder / "m.parquet")
    return str(folder / "m.parquet")


def arrow(folder: Path, record: Record) -> str:
    (part,) = Path(saved(folder, record, classes=True)).glob("*.arrow")
    return str(part)


def audio_column(folder: Path, record: Record) -> str:
    made = dataset(folder, record, classes=True).cast_column("audio", datasets.Audio())
    made.to_parquet(folder / "m.parquet")
    return str(folder / "m.parquet")


HOLDERS: dict[str, Callable[[Path, Record], str]] = {
    "manifest": manifest,
    "CSV": lambda folder, record: table(folder / "m.csv", ",", record),
    "TSV": lambda folder, record: table(folder / "m.tsv", "\t", record),
    "tar": tar,
    "saved": saved,
    "saved, classes": lambda folder, record: saved(folder, record, classes=True),
    "Parquet": parquet,
    "Parquet, classes": lambda folder, record: parquet(folder, record, classes=True),
    "Parquet, audio column": audio_column,
    "Arrow": arrow,
    "LibriSpeech": librispeech,
}
RECORDS: dict[str, Record] = {
    "a text": {"text": "Hello there"},
    "quote marks": {"text": 'every "measure", "pursued"'},
    "accents": {"text": "nüsse n\u0075\u0308sse ﬁ"},
    "what is told of it": {
        "text": "hello",
        "speaker": "7",
        "language": "de",
        "task": "transcribe",
        "duration": 1.0,
    },
    "a speaker's number": {"text": "hello", "speaker": 7},
}
WAVES = {
    "mono": SPEECH,
    "stereo": np.stack([SPEECH, SPEECH / 2], 1),
    "opposite channels": np.stack([SPEECH, -SPEECH], 1),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", SPEECH, 16_000)
    return tmp_path


@pytest.mark.parametrize("content", RECORDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_columns(folder: Path, holder: str, content: str) -> None:
    record = {"audio": "a.wav", **RECORDS[content]}
    if holder == "LibriSpeech" and len(record) > 2:
        pytest.skip("its transcripts say no more than the text")
    (found,) = read_source(HOLDERS[holder](folder, record))
    speaker = record.get("speaker") or ("a" if holder == "LibriSpeech" else None)
    assert found.text == record["text"]
    assert found.speaker == (None if speaker is None else str(speaker))
    assert (found.language, found.task) == (record.get("language"), record.get("task"))
    assert found.duration == 1.0


@pytest.mark.parametrize("content", WAVES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_samples(folder: Path, holder: str, content: str) -> None:
    soundfile.write(folder / "a.wav", WAVES[content], 16_000)
    expected = AudioFile(folder / "a.wav").load()
    assert expected.std().item() == pytest.approx(SPEECH.std(), rel=0.3)
    (found,) = read_source(HOLDERS[holder](folder, {"audio": "a.wav", "text": "hello"}))
    assert torch.equal(found.audio.load(), expected)


@pytest.mark.parametrize("holder", HOLDERS)
def test_recordings_that_are_refused(folder: Path, holder: str) -> None:
    path = folder / "a.wav"
    contents = {
        "is cut off after": lambda: path.write_bytes(path.read_bytes()[:9_000]),
        "full scale is 1": lambda: soundfile.write(path, SPEECH * 2**15, 16_000, "FLOAT"),
        "not finite": lambda: soundfile.write(path, SPEECH * np.nan, 16_000, "FLOAT"),
        "has 100 channels": lambda: soundfile.write(path, np.zeros((16_000, 100)), 16_000),
    }
    for number, (reason, make) in enumerate(contents.items()):
        make()
        place = folder / str(number)
        place.mkdir()
        (place / "a.wav").write_bytes(path.read_bytes())
        (found,) = read_source(HOLDERS[holder](place, {"audio": "a.wav", "text": "hello"}))
        with pytest.raises(DataError, match=reason):
            found.audio.load()


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("kind", ["saved", "Parquet", "Arrow"])
def test_arrays(tmp_path: Path, kind: str, channels_first: bool) -> None:
    samples = np.stack([SPEECH, -SPEECH])
    cell = {"array": (samples if channels_first else samples.T).tolist(), "sampling_rate": 16_000}
    made = datasets.Dataset.from_list([{"audio": cell, "text": "hello"}])
    spec = str(tmp_path / "m.parquet") if kind == "Parquet" else str(tmp_path / "set")
    if kind == "Parquet":
        made.to_parquet(spec)
    else:
        made.save_to_disk(spec)
    if kind == "Arrow":
        spec = str(next((tmp_path / "set").glob("*.arrow")))
    (found,) = read_source(spec)
    assert found.duration == 1.0
    torch.testing.assert_close(found.audio.load(), torch.tensor(SPEECH, dtype=torch.float32))


@pytest.mark.parametrize("kind", ["saved", "Parquet", "Arrow"])
def test_any_column_may_hold_classes(folder: Path, kind: str) -> None:
    """As the words of Speech Commands do; a class of -1 is a missing one."""
    content = (folder / "a.wav").read_bytes()
    columns = datasets.Features(
        audio={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        label=datasets.ClassLabel(names=["yes", "no"]),
        speaker=datasets.ClassLabel(names=["ann", "bob"]),
        language=LANGUAGE,
        accent=datasets.ClassLabel(names=["north", "south"]),
    )
    row = {"audio": {"bytes": content, "path": None}, "label": 1, "speaker": 0, "accent": 1}
    made = datasets.Dataset.from_list([{**row, "language": -1}], features=columns)
    made.save_to_disk(folder / "set")
    made.to_parquet(folder / "m.parquet")
    spec = {
        "saved": folder / "set",
        "Parquet": folder / "m.parquet",
        "Arrow": next((folder / "set").glob("*.arrow")),
    }[kind]
    (found,) = read_source(str(spec), ReadOptions(Columns(text="label")))
    assert (found.text, found.speaker, found.language) == ("no", "ann", None)
    assert found.extra["accent"] == "south"
