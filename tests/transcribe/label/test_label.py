"""Labelling a data set in shards: with a real Whisper where it says so, and else with what hears
nonsense, but mostly the same."""

import json
import logging
import os
import random
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from echo.checkpoints.load import load_model
from echo.data.audio import AudioFile
from echo.data.prepare.shard import write_shards
from echo.data.sources import Columns, ReadOptions, read_source, scan_source
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError, DataError, EchoError
from echo.transcribe.label import label as module
from echo.transcribe.label import labels
from echo.transcribe.label.label import Part, label_source
from echo.transcribe.label.labels import COLUMNS, confidence
from echo.transcribe.label.shards import MANIFEST, labels_file, seal_file
from echo.transcribe.transcribe import TranscribeSettings, transcribe_recordings
from echo.transcribe.transcript import Decoding, Segment, Transcript
from tests.data.recordings import write, write_manifest
from tests.small_multilingual import save_multilingual
from tests.test_cli import run

UNTRANSCRIBED = ReadOptions(Columns(needs_text=False), "skip")
OUTSIDE = replace(UNTRANSCRIBED, allow_outside=True)
WITHOUT_SECOND = {*COLUMNS} - {"agreement"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small ones of windows of 2 s."""
    made = {}
    for name, tokens in (("model", 30), ("other", 24)):
        folder = tmp_path_factory.mktemp(name)
        made[name] = str(
            save_multilingual(folder, max_source_positions=100, max_target_positions=tokens)
        )
    return made


@pytest.fixture
def model(models, monkeypatch):
    """One that hears a sentence in each second."""
    monkeypatch.setattr(labels, "transcribe_files", hear)
    return models["model"]


@pytest.fixture
def other(models):
    return models["other"]


WORDS = ("red", "green", "blue", "grey", "pink", "brown", "black", "white")


def hear(loaded, recordings, settings, progress=False):
    """Takes the place of a model: its text depends on the samples and the model, and its
    confidence, as with a temperature, on random numbers too."""
    for index, audio in reversed([*enumerate(recordings)]):
        try:
            samples = audio.load()
        except DataError as error:
            yield index, error
            continue
        seconds = len(samples) / SAMPLE_RATE
        yield index, Transcript(seconds, tuple(sentences(loaded, samples)))


def sentences(loaded, samples):
    for start in range(0, len(samples), SAMPLE_RATE):
        second = samples[start : start + SAMPLE_RATE]
        if second.any():
            numbers = [int(abs(x) * 1e4) for x in (second.mean(), *second[100:500:100])]
            if loaded.model.config.max_target_positions == 24:
                numbers[1::2] = [0, 0]
            text = " ".join(WORDS[number % len(WORDS)] for number in numbers)
            times = start / SAMPLE_RATE, (start + len(second)) / SAMPLE_RATE
            told = Decoding(0.0, -0.5, 1.5, 0.01)
            yield Segment(*times, text, confidence=float(torch.rand(1)), decoding=told)


def text_of(path, model):
    return " ".join(s.text for s in sentences(load_model(model), AudioFile(path).load()))


def voice(number, seconds):
    """Something that rises and falls as speech does."""
    draw = np.random.default_rng(number)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * (300 + 50 * number) * time) + 0.3 * draw.standard_normal(len(time))
    return 0.2 * wave * np.sin(2 * np.pi * 2 * time) ** 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven recordings."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(7):
        write(folder / f"{number}.wav", voice(number, 0.7 + 0.15 * number))
    return folder


@pytest.fixture(scope="module")
def data(folder):
    """A manifest of them: the even ones have a text."""
    rows = [{"audio_filepath": f"{n}.wav", "speaker": n} for n in range(7)]
    for row in rows[::2]:
        row["text"] = f"number {row['speaker']}"
    rows[2]["text"] = ""  # nobody speaks, as a human says
    return write_manifest(folder / "rows.jsonl", *rows)


def label(data, out, model, second=None, rows=3, part="1/1", options=OUTSIDE, **settings):
    settings = TranscribeSettings(**{"batch_size": 2, **settings})
    return label_source(data, out, options, model, second, "best", settings, rows, Part.read(part))


def read(out):
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def test_labels_fill_what_has_no_text_and_nothing_else(data, folder, model, tmp_path):
    found = label(data, tmp_path / "out", model)
    assert (found.shards, len(found.sealed), found.complete, found.left_out) == (3, 3, True, 0)
    rows = read(tmp_path / "out")
    told = [json.loads(line) for line in Path(data).read_text().splitlines()]
    assert [row["speaker"] for row in rows] == [*range(7)]
    for row, before in zip(rows, told, strict=True):
        assert row["text"] == before.get("text", row["label"])
        assert row.keys() >= WITHOUT_SECOND
        assert 0 <= row["confidence"] <= 1
        assert Path(tmp_path / "out" / row["audio_filepath"]).samefile(
            folder / before["audio_filepath"]
        )
    assert [row["label"] for row in rows] == [text_of(folder / f"{n}.wav", model) for n in range(7)]
    assert len({row["label"] for row in rows}) == 7
    read_back = read_source(str(tmp_path / "out"), ReadOptions(allow_outside=True))
    assert [u.text for u in read_back] == [row["text"] for row in rows]
    assert read_back[3].extra["confidence"] == rows[3]["confidence"]


def test_parts_in_any_order_and_restarts_give_the_same_labels(data, model, tmp_path, monkeypatch):
    """A process that is killed loses the shard that it was at, and no other."""
    label(data, tmp_path / "one", model)
    expected = (tmp_path / "one" / MANIFEST).read_bytes()
    out = tmp_path / "parts"
    second = label(data, out, model, part="2/2")
    assert (len(second.sealed), second.complete) == (1, False)
    assert not (out / MANIFEST).exists()
    write_sealed = module.write_sealed

    def killed_at_the_last(folder, number, lines, **about):
        if number == 2:
            labels_file(folder, 2).write_text("".join(lines)[:50])  # half of it, and no seal
            raise KeyboardInterrupt
        return write_sealed(folder, number, lines, **about)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_sealed", killed_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            label(data, out, model, part="1/2")
    first = label(data, out, model, part="1/2")
    assert (len(first.sealed), len(first.skipped), first.complete) == (1, 1, True)
    assert read(out) == read(tmp_path / "one")
    assert (out / MANIFEST).read_bytes() == expected
    before = {path: path.stat().st_mtime_ns for path in out.glob("labels-*")}
    again = label(data, out, model)
    assert (len(again.sealed), len(again.skipped)) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in out.glob("labels-*")} == before


def test_damaged_labels_are_made_again(data, model, tmp_path):
    label(data, tmp_path, model)
    expected = (tmp_path / MANIFEST).read_bytes()
    labels_file(tmp_path, 1).write_text("")
    assert len(label(data, tmp_path, model).sealed) == 1
    assert (tmp_path / MANIFEST).read_bytes() == expected


def test_damaged_labels_of_another_part_are_not_joined(data, model, tmp_path):
    label(data, tmp_path, model)
    (tmp_path / MANIFEST).unlink()
    labels_file(tmp_path, 1).write_text("")
    assert not label(data, tmp_path, model, part="1/3").complete
    assert not (tmp_path / MANIFEST).exists()


def test_a_damaged_recording_may_have_any_name(folder, model, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "echo")  # pytest's processes cannot tell each other the name
    write(tmp_path / "in" / "0.wav", voice(0, 1))
    (tmp_path / "in" / os.fsdecode(b"\xff.wav")).write_bytes(b"RIFF")
    assert label(str(tmp_path / "in"), tmp_path / "out", model).left_out == 1
    assert len(read(tmp_path / "out")) == 1


def test_agreement_is_what_two_models_hear_alike(data, model, other, tmp_path, folder):
    label(data, tmp_path, model, second=other)
    for number, row in enumerate(read(tmp_path)):
        wer = jiwer.wer(row["label"], text_of(folder / f"{number}.wav", other))
        assert 0 < wer < 1
        assert row["agreement"] == pytest.approx(1 - wer, abs=1e-4)


def test_agreement_is_in_the_language_that_is_told(data, models, tmp_path, monkeypatch):
    """Of German, the English normaliser would leave out "um", and the dots of "schöne"."""
    said = {30: "er geht um die schöne Straße", 24: "er geht die schone Strasse"}

    def hear(loaded, recordings, settings, progress=False):
        text = said[loaded.model.config.max_target_positions]
        for index, _ in enumerate(recordings):
            yield index, Transcript(1.0, (Segment(0.0, 1.0, text, confidence=0.5),))

    monkeypatch.setattr(labels, "transcribe_files", hear)
    label(data, tmp_path, models["model"], second=models["other"], language="german")
    assert {row["agreement"] for row in read(tmp_path)} == {0.5}  # one of six left out, two others


def test_a_named_column_of_texts_may_be_missing_in_a_row(data, folder, model, tmp_path):
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    for row in rows:
        if "text" in row:
            row["said"] = row.pop("text")
    named = write_manifest(folder / "said.jsonl", *rows)
    options = replace(OUTSIDE, columns=Columns(text="said", needs_text=False))
    assert label(named, tmp_path, model, options=options).left_out == 0
    for row, before in zip(read(tmp_path), rows, strict=True):
        assert row["said"] == before.get("said", row["label"])
        assert "text" not in row


def test_files_that_another_process_is_writing_are_passed_over(data, model, tmp_path):
    """As network file systems show what was deleted while it was open."""
    (tmp_path / ".nfs000000000000001").write_text("")
    assert label(data, tmp_path, model).complete


def test_long_recordings_become_rows_of_their_parts(model, tmp_path):
    """But not where a human said what is said in all of it."""
    samples = np.concatenate([voice(n, 1.5) for n in range(4)])
    write(tmp_path / "long.wav", samples)
    data = write_manifest(
        tmp_path / "rows.jsonl",
        {"audio_filepath": "long.wav", "offset": 0.5, "duration": 5.0},
        {"audio_filepath": "long.wav", "text": "all of it"},
    )
    label(data, tmp_path / "out", model)
    *parts, whole = read(tmp_path / "out")
    assert (whole["text"], whole["duration"]) == ("all of it", 6.0)
    assert len(parts) > 1
    for row in parts:
        assert 0.5 <= row["offset"] < row["offset"] + row["duration"] <= 5.5
        assert row["text"] == row["label"] != ""
    starts = [row["offset"] for row in parts]
    assert starts == sorted(starts)
    assert len({row["id"] for row in parts}) == len(parts)
    audio = read_source(str(tmp_path / "out"), ReadOptions(allow_outside=True))[0].audio
    first, last = (round(x * SAMPLE_RATE) for x in (starts[0], starts[0] + parts[0]["duration"]))
    expected = AudioFile(tmp_path / "long.wav").load()[first:last]
    assert torch.equal(audio.load()[: len(expected)], expected)


def test_tar_shards_are_labelled_where_they_lie(data, folder, model, tmp_path):
    """Each is a shard, and the labels name the recordings in them."""
    scanned = scan_source(data, OUTSIDE)
    write_shards(scanned, tmp_path / "tars", "flac", 4)
    for tar in (tmp_path / "tars").glob("*.tar"):
        tar.write_bytes(tar.read_bytes().replace(b'"text"', b'"txet"'))  # now nothing is said
    out = tmp_path / "out"
    sizes = {path: path.stat().st_size for path in (tmp_path / "tars").iterdir()}
    assert label(str(tmp_path / "tars"), out, model).shards == 2
    assert {path: path.stat().st_size for path in (tmp_path / "tars").iterdir()} == sizes
    rows = read_source(str(out), ReadOptions(allow_outside=True))
    assert len(rows) == 7
    for number, row in enumerate(rows):
        assert torch.equal(row.audio.load(), AudioFile(folder / f"{number}.wav").load())
    assert [row.text for row in rows] == [row["label"] for row in read(out)]
    assert not [*out.rglob("*.flac")]


def test_a_folder_of_recordings_needs_no_manifest(folder, model, tmp_path, data):
    for number in (0, 1):
        write(tmp_path / "in" / f"{number}.wav", voice(number, 0.7 + 0.15 * number))
    label(str(tmp_path / "in"), tmp_path / "out", model)
    label(data, tmp_path / "both", model)
    pairs = [*zip(read(tmp_path / "out"), read(tmp_path / "both"), strict=False)]
    assert [a["label"] for a, _ in pairs] == [b["label"] for _, b in pairs]
    assert [a["text"] for a, _ in pairs] == [a["label"] for a, _ in pairs]


def test_silence_has_an_empty_label_of_no_confidence(model, tmp_path):
    for seconds in (1, 5):  # less and more than the model's input
        write(tmp_path / f"{seconds}.wav", np.zeros(seconds * SAMPLE_RATE))
    label(str(tmp_path), tmp_path / "out", model)
    rows = read(tmp_path / "out")
    assert [row["duration"] for row in rows] == [1, 5]
    for row in rows:
        told = {name: row[name] for name in ("text", "label", "confidence", "no_speech")}
        assert told == {"text": "", "label": "", "confidence": 0, "no_speech": 1}


def test_confidence_is_between_those_of_the_segments():
    sure, unsure = (Segment(0, 1, "of one length", confidence=p) for p in (0.9, 0.4))
    assert confidence([sure, sure]) == pytest.approx(0.9)
    assert confidence([sure, unsure]) == pytest.approx((0.9 * 0.4) ** 0.5)
    assert confidence([sure, replace(unsure, text="no")]) > confidence([sure, unsure])


def test_rows_that_cannot_be_used_stop_no_other(data, folder, model, tmp_path):
    """They are named again after a restart, and their place does not matter."""
    (tmp_path / "damaged.wav").write_bytes((folder / "0.wav").read_bytes()[:100])
    lines = [
        "no JSON",
        {"audio_filepath": str(folder / "1.wav")},
        {"audio_filepath": "gone.wav"},
        {"audio_filepath": "damaged.wav", "duration": 1.0},
        {"audio_filepath": str(folder / "3.wav"), "text": 3},
        {"audio_filepath": str(folder / "3.wav"), "text": None},
    ]
    bad = write_manifest(tmp_path / "bad.jsonl", *lines)
    found = label(bad, tmp_path / "out", model, rows=10)
    assert found.left_out == 4
    assert "damaged.wav" in " ".join(found.sealed[0].left_out)
    assert [Path(row["audio_filepath"]).name for row in read(tmp_path / "out")] == [
        "1.wav",
        "3.wav",
    ]
    assert label(bad, tmp_path / "out", model, rows=10).left_out == 4


def test_processes_of_a_launcher_divide_a_part(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = set()
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        found |= {(part.index, part.count) for part in map(Part.read, ("1/3", "2/3", "3/3"))}
    assert found == {(index, 6) for index in range(6)}


def test_a_process_of_several_labels_its_own_shards(monkeypatch, capsys, models, data, tmp_path):
    """It waits for no other, and other commands on data refuse to run in several."""
    for name, value in {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    rest = ("--out", tmp_path, "--rows", "3", "--allow-outside")
    code, out, _ = run(
        monkeypatch, capsys, "data", "label", data, "--model", models["model"], *rest
    )
    assert (code, out.splitlines()[0].startswith("labelled 3 rows, 0.00 hours, in 1 of 3")) == (
        0,
        True,
    )
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["labels-00001.jsonl"]
    code, _, err = run(monkeypatch, capsys, "data", "check", data)
    assert code == 2
    assert "check runs in one process; only train, resume and data label run in several" in err


def changed(name):
    """Something that another setting, model or row would be."""

    def change(data, out, model, other):
        if name == "rows":
            Path(data).write_text(Path(data).read_text().replace("number 0", "number 9"))
        elif name == "a recording":
            write(Path(data).parent / "0.wav", voice(0, 0.9))
        elif name == "a seal":
            seal_file(out, 0).write_text("{}")
        elif name == "JSON":
            seal_file(out, 0).write_text("{")
        options = {"settings": {"beams": 2}, "shards": {"rows": 2}, "second": {"second": other}}
        label(data, out, other if name == "model" else model, **options.get(name, {}))

    return change


RESTARTS = {
    "settings": "made with another beams; choose another folder",
    "shards": "made with another rows; choose",
    "second": "made with another second; choose",
    "model": "made with another model; choose",
    "rows": "labels-00000.seal.json: the rows of this shard, or their recordings, have changed",
    "a recording": "or their recordings, have changed since it was labelled; delete this file",
    "a seal": "labels-00000.seal.json: does not say how labels were made: delete it",
    "JSON": "labels-00000.seal.json: is not JSON",
}


@pytest.mark.parametrize("name", RESTARTS)
def test_a_restart_with_something_else_is_refused(data, folder, model, other, tmp_path, name):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copied = str(tmp_path / Path(data).name)
    label(copied, tmp_path / "out", model)
    labels = labels_file(tmp_path / "out", 0).read_bytes()
    with pytest.raises(EchoError, match=RESTARTS[name]):
        changed(name)(copied, tmp_path / "out", model, other)
    assert labels_file(tmp_path / "out", 0).read_bytes() == labels


REFUSALS = {
    "a part of none": (["--part", "0/4"], "--part is '0/4', but must be like 3/40"),
    "a part beyond the last": (["--part", "5/4"], "--part is '5/4'"),
    "a part that is no number": (["--part", "a/b"], "--part is 'a/b'"),
    "no data": (["gone.jsonl"], "gone.jsonl: no such file or folder"),
    "no recordings": (["empty"], "empty: holds no utterances"),
    "no model": (["--model", "gone"], "gone"),
    "a model that agrees with itself": (["--second", "MODEL"], "the same model as --model"),
    "a folder of something else": (["--out", "."], ".: holds something else"),
    "a folder of a data set": (["--out", "set"], "set: holds something else (manifest.jsonl)"),
    "a file": (["--out", "taken"], "taken: is a file, but must be a folder"),
    "a language": (["--language", "klingon"], "klingon"),
    "columns of labels": (["labels.jsonl"], "has a column 'confidence' already: rename it"),
    "no shards of no rows": (["--rows", "0"], "rows"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_done_is_one_sentence(monkeypatch, capsys, caplog, tmp_path, models, name):
    model = models["model"]
    monkeypatch.chdir(tmp_path)
    for made in ("empty", "set"):
        (tmp_path / made).mkdir()
    (tmp_path / "taken").touch()
    write(tmp_path / "0.wav", voice(0, 0.7))
    write_manifest(tmp_path / "ok.jsonl", {"audio_filepath": "0.wav"})
    write_manifest(tmp_path / "labels.jsonl", {"audio_filepath": "0.wav", "confidence": 1})
    write_manifest(tmp_path / "set" / MANIFEST, {"audio_filepath": "0.wav", "text": "kept"})
    arguments, message = REFUSALS[name]
    given = [model if each == "MODEL" else each for each in arguments]
    data = [] if given[0].endswith("jsonl") or given == ["empty"] else ["ok.jsonl"]
    for option, value in (("--model", model), ("--out", "out")):
        given += [] if option in given else [option, value]
    code, _, err = run(monkeypatch, capsys, "data", "label", *data, *given)
    assert code == 2
    assert message in err + caplog.text
    assert "Traceback" not in err
    assert (tmp_path / "set" / MANIFEST).read_text().count("kept") == 1


def test_a_member_that_is_none_is_refused(tmp_path, model):
    """What a manifest says of a recording in a shard."""
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    bad = [{"name": "a", "offset": -1, "size": 5}, {"name": "a", "offset": 0}, {"offset": "0"}]
    rows = [{"audio_filepath": "a.tar", "member": member, "duration": 1.0} for member in bad]
    rows.append({**rows[0], "member": {"name": "a", "offset": 1000, "size": 500}})
    data = write_manifest(tmp_path / "rows.jsonl", *rows)
    found = label(data, tmp_path / "out", model)
    problems = [problem for seal in found.sealed for problem in seal.left_out]
    assert sum("'member' must hold the name, offset and size" in each for each in problems) == 3
    assert sum("is cut off after 24 of 500 bytes" in each for each in problems) == 1


def test_a_whisper_labels_as_it_transcribes(shared, tmp_path):
    folder = shared / "data/librispeech/dev"
    clip, whisper = folder / "8226-274369-0000.opus", str(shared / "models/whisper-tiny.en")
    data = write_manifest(tmp_path / "rows.jsonl", {"audio_filepath": str(clip)})
    label(data, tmp_path / "out", whisper)
    (row,) = read(tmp_path / "out")
    (alone,) = transcribe_recordings(load_model(whisper), [clip])
    assert row["text"] == alone.text == "Every measure pursued by the commons."
    assert row["confidence"] == pytest.approx(alone.segments[0].confidence, abs=1e-3)
    assert 0 <= row["no_speech"] < 0.1 < row["compression"]


@pytest.mark.slow
def test_sure_labels_have_fewer_errors(shared, tmp_path):
    """Of a real Whisper on real speech."""
    rows = read_source(str(shared / "data/librispeech/dev.jsonl"))
    chosen = random.Random(0).sample(rows, 20)
    lines = [{"audio_filepath": str(u.audio.path), "said": u.text} for u in chosen]
    data = write_manifest(tmp_path / "rows.jsonl", *lines)
    label(data, tmp_path / "out", str(shared / "models/whisper-tiny.en"), batch_size=16)
    found = sorted(read(tmp_path / "out"), key=lambda row: -row["confidence"])
    plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation()])

    def wer(rows):
        return jiwer.wer([r["said"] for r in rows], [plain(r["label"]) for r in rows])

    assert wer(found[:16]) < wer(found)


def test_the_errors_are_of_their_kinds():
    for text in ("0/4", "4", "1/2/3", "１/２"):
        with pytest.raises(ConfigError):
            Part.read(text)
    with pytest.raises(DataError, match="holds no data set"):
        read_source(str(Path(__file__).parent))
