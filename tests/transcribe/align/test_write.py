"""The command: what it writes, and what it says of what it cannot use."""

import json

import pytest

from echo.data.sources import ReadOptions, read_source
from echo.support.errors import ConfigError, DataError, EchoError
from echo.transcribe.align import align as aligning
from echo.transcribe.align.pairs import find_pairs
from echo.transcribe.align.write import align_pairs
from tests.data.recordings import tone, write
from tests.test_cli import run
from tests.transcribe.align.tones import aligner, sentence, speak


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folders(tmp_path):
    """Two recordings with texts, and one whose recording is damaged."""
    for name in ("a", "sub/b"):
        texts = [sentence(i) for i in range(6)]
        write(tmp_path / "audio" / f"{name}.wav", speak(texts)[0])
        text = tmp_path / "texts" / f"{name}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join([f"ANN: {texts[0]}", *texts[1:4], sentence(99), texts[5]]))
    (tmp_path / "audio" / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "texts" / "bad.txt").write_text("words")
    return tmp_path


def test_rows_are_written_beside_a_damaged_pair(folders, caplog):
    pairs, problems = find_pairs(folders / "audio", folders / "texts")
    out = folders / "out"
    counts = align_pairs(pairs, problems, aligner(), out)
    assert counts.left_out == 1
    assert "bad.wav: cannot be read as audio" in caplog.text
    kept, rejected, missing, unlabelled = (
        lines(out / f"{name}.jsonl") for name in ("kept", "rejected", "missing", "unlabelled")
    )
    assert [row["text"] for row in kept] == 2 * [
        sentence(0),
        " ".join(sentence(i) for i in (1, 2, 3)),
        sentence(5),
    ]
    assert [row.get("speaker") for row in kept] == 2 * ["ANN", None, None]
    assert all(row["wer"] == 0 and row["heard"] == row["text"] for row in kept)
    assert [row["text"] for row in rejected] == 2 * [sentence(99)]
    assert [reason["rule"] for reason in rejected[0]["reasons"]] == ["score", "wer"]
    assert missing == []
    assert [row["heard"] for row in unlabelled] == 2 * [sentence(4)]
    read = read_source(str(out / "kept.jsonl"), ReadOptions(allow_outside=True))
    assert [row.text for row in read] == [row["text"] for row in kept]
    for row, written in zip(read, kept, strict=True):  # the parts that are named hold their words
        heard = aligner().transcriber.transcribe([row.audio.load()], None)[0].text
        assert heard == written["text"]
    record = json.loads((out / "align.json").read_text())
    assert record["counts"]["kept"]["rows"] == len(kept)
    assert "read: 2 recordings, 0.01 hours\nkept: 6 rows" in counts.to_text()
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(EchoError, match="out: exists, and is not an empty folder"):
        align_pairs(pairs, problems, aligner(), out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_nothing_is_written_if_nothing_can_be_aligned(folders):
    pairs, _ = find_pairs(folders / "audio", folders / "texts")
    bad = [pair for pair in pairs if pair[0].name == "bad.wav"]
    with pytest.raises(
        DataError, match=r"none of 1 recordings can be aligned; the first: .*bad\.wav"
    ):
        align_pairs(bad, [], aligner(), folders / "out")
    assert not (folders / "out").exists()
    assert not [*folders.glob(".*")]


def test_names_that_do_not_pair_are_said(folders):
    for name in ("audio/lone.wav", "audio/a.flac", "texts/a.srt", "texts/left.vtt"):
        (folders / name).write_bytes(b"")
    pairs, problems = find_pairs(folders / "audio", folders / "texts")
    assert [(a.stem, b.stem) for a, b in pairs] == [("bad", "bad"), ("b", "b")]
    said = "\n".join(map(str, problems))
    assert "a.flac: 2 recordings have its name: a.flac, a.wav" in said
    assert "a.srt: 2 texts have its name: a.srt, a.txt" in said
    assert "left.vtt: there is no recording of this name" in said
    assert "lone.wav: there is no text of this name" in said


MODEL = "models/whisper-tiny.en"
BAD = {
    "no recording": (["none.wav", "a.txt"], "none.wav: no such file"),
    "no text": (["a.wav", "none.txt"], "none.txt: no such file"),
    "a file and a folder": (
        ["a.wav", "empty"],
        "a.wav and empty must be two files, or two folders",
    ),
    "empty folders": (["empty", "empty"], "hold no recording and text of the same name"),
    "no audio": (["a.txt", "a.txt"], "a.txt: cannot be read as audio"),
    "a text of another kind": (["a.wav", "a.wav"], "a.wav: cannot be aligned; texts end in .txt"),
    "no model": (["a.wav", "a.txt", "--model", "nowhere/at/all"], "nowhere/at/all"),
    "a taken folder": (["a.wav", "a.txt", "--out", "."], ".: is no name for a new folder"),
    "a wrong setting": (["a.wav", "a.txt", "max_second=3"], "unknown key 'max_second'"),
    "a wrong value": (["a.wav", "a.txt", "max_seconds=0"], "max_seconds is 0, but must be"),
    "a probability above 1": (["a.wav", "a.txt", "min_score=1"], "min_score is 1, but must be"),
    "a language that is not known": (["a.wav", "a.txt", "--language", "de"], "cannot do 'de'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_sentence(monkeypatch, capsys, shared, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("some words")
    write(tmp_path / "a.wav", tone())
    defaults = {"--model": shared / MODEL, "--out": "out"}
    given = [part for pair in defaults.items() if pair[0] not in arguments for part in pair]
    code, out, err = run(monkeypatch, capsys, "data", "align", *arguments, *given)
    assert code == 2
    [said] = [line for line in err.splitlines() if line.startswith("echo-asr: ")]
    assert message in said
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_multilingual_model_must_be_told_the_language(monkeypatch):
    monkeypatch.setattr(aligning, "known_languages", lambda generation: {"<|de|>": 1})
    monkeypatch.setattr(aligning, "spoken_language", lambda generation: None)

    class Loaded:
        class model:  # noqa: N801
            generation_config = None

    with pytest.raises(ConfigError, match="tiny: is multilingual: name the language"):
        aligning.aligner_of(Loaded, "tiny", aligning.AlignSettings())


def test_a_recording_is_aligned_from_the_command_line(monkeypatch, capsys, shared, tmp_path):
    """Of two sentences that are said, and one that is not."""
    path = shared / "data/librispeech/dev/8226-274369-0000.opus"
    (tmp_path / "a.txt").write_text(
        "Every measure pursued by the Commons.\nWhat nobody says at all in this recording."
    )
    given = ["--model", shared / MODEL, "--out", tmp_path / "out"]
    code, out, _ = run(monkeypatch, capsys, "data", "align", path, tmp_path / "a.txt", *given)
    assert code == 0
    assert "kept: 1 row," in out
    assert "text that nobody says: 1 sentence" in out
    [row] = lines(tmp_path / "out" / "kept.jsonl")
    assert row["text"] == "Every measure pursued by the Commons."
    assert row["duration"] <= 3
    assert row["score"] > -2


def test_a_command_may_name_files_that_are_not_utf8(folders, monkeypatch):
    monkeypatch.setattr("sys.argv", ["echo-asr", "data", "align", "caf\udce9.wav"])
    pairs, _ = find_pairs(folders / "audio" / "a.wav", folders / "texts" / "a.txt")
    align_pairs(pairs, [], aligner(), folders / "out")
    record = json.loads((folders / "out" / "align.json").read_text())
    assert ".wav" in record["command"]
