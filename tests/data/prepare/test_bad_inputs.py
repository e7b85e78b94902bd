"""What the commands that prepare data say of inputs that cannot be used: one sentence each, and
nothing is left behind or changed."""

import pytest

from tests.data.recordings import write, write_manifest
from tests.test_cli import run

TAKEN = "exists, and is not an empty folder; choose another"
NO_ROWS = "none of its {} rows can be written; the first is "
CASES = {
    "convert good.jsonl full --to nemo": f"full: {TAKEN}",
    "convert good.jsonl file --to nemo": f"file: {TAKEN}",
    "convert good.jsonl good.jsonl --to csv": f"good.jsonl: {TAKEN}",
    "convert good.jsonl out --to mp3": "--to is 'mp3', but must be one of: nemo, hf, kaldi,",
    "convert good.jsonl out": "Missing option '--to'",
    "convert none.jsonl out --to hf": "none.jsonl: no such file or folder",
    "convert empty.jsonl out --to kaldi": "empty.jsonl: holds no utterances",
    "convert gone.jsonl out --to lhotse": f"{NO_ROWS.format(1)}gone.jsonl:1: no recording",
    "convert latin.jsonl out --to csv": f"{NO_ROWS.format(1)}latin.jsonl:1: is not UTF-8 text",
    "convert bad.csv out --to nemo": "bad.csv:1: no audio column: expected 'audio_filepath'",
    "convert kaldi out --to nemo": "kaldi/wav.scp:1 is a command, which is never run",
    "convert folder out --to nemo": "folder: holds no data set",
    "convert a.wav out --to nemo": "a.wav: is not a kind of file that holds a data set",
    "convert good.jsonl file/out --to nemo": "file/out: cannot be written",
    "convert good.jsonl out --to nemo --text-column words": "no text column: expected 'words'",
    "split good.jsonl --out full --dev 1%": f"full: {TAKEN}",
    "split good.jsonl --out file/out --dev 40%": "file/out: cannot be written",
    "split good.jsonl --out out": "split needs a folder and a size",
    "split good.jsonl --dev 5%": "split needs a folder and a size",
    "split good.jsonl --out out --dev 0%": "--dev: '0%' must be a share such as 5%, or hours",
    "split good.jsonl --out out --dev x%": "--dev: 'x%' must be a share",
    "split good.jsonl --out out --dev -5%": "--dev: '-5%' must be a share",
    "split good.jsonl --out out --dev nan%": "--dev: 'nan%' must be a share",
    "split good.jsonl --out out --dev 60% --test 60%": "and leave nothing to train on",
    "split good.jsonl --out out --dev 100h": "and leave nothing to train on",
    "split good.jsonl --out out --dev 5% --by nothing": "no row has anything for 'nothing'",
    "split mute.jsonl --out out --dev 5%": "or leave it out: --by recording,text",
    "split good.jsonl --out out --dev 5% --by text,text": "must be different names",
    "split good.jsonl --out out --dev 5% --stratify gender": "or leave out --stratify",
    "split good.jsonl --out out --dev 5% --keep folder": "folder: holds no earlier split",
    "split good.jsonl --out out --dev 5% --keep none": "none: holds no earlier split",
    "split good.jsonl --out out --dev 5% --seed -1": "Invalid value for '--seed'",
    "split good.jsonl --check": "name at least two",
    "split good.jsonl good.jsonl --check --out out": "--check writes nothing: leave out --out",
    "split good.jsonl good.jsonl --check --seed 0": "--check writes nothing: leave out --seed",
    "split good.jsonl good.jsonl --out out --dev 5%": "split takes one data set",
    "split empty.jsonl --out out --dev 5%": "empty.jsonl: holds no utterances",
    "split none.jsonl --out out --dev 5%": "none.jsonl: no such file or folder",
    "filter good.jsonl": "filter needs --out FOLDER, or --dry-run",
    "filter good.jsonl --out full": f"full: {TAKEN}",
    "filter good.jsonl --out file": f"file: {TAKEN}",
    "filter good.jsonl no_such=3 --out out": "command line: unknown key 'no_such'",
    "filter good.jsonl filter.yaml --out out": "filter.yaml: unknown key 'no_such_rule'",
    "filter good.jsonl min_seconds=x --out out": "min_seconds is 'x', but must be a number",
    "filter good.jsonl min_seconds=5 max_seconds=1 --out out": "min_seconds is 5, more than max",
    "filter good.jsonl max_wer=0.5 --out out": "max_wer has no effect without --model",
    "filter good.jsonl --checkpoint last --out out": "--checkpoint has no effect without --model",
    "filter good.jsonl --model folder --out out": "folder: is neither a run nor a model",
    "filter good.jsonl --model no/such/model --out out": "no/such/model: no such folder",
    "filter good.jsonl --workers x --out out": "Invalid value for '--workers'",
    "filter none.jsonl --out out": "none.jsonl: no such file or folder",
    "filter empty.jsonl --out out": "empty.jsonl: holds no utterances",
    "apply none.jsonl good.jsonl out.jsonl": "none.jsonl: cannot be read",
    "apply text.jsonl good.jsonl out.jsonl": "text.jsonl:1: is not JSON",
    "apply list.jsonl good.jsonl out.jsonl": "list.jsonl:1: is not a JSON object",
    "apply half.jsonl good.jsonl out.jsonl": "half.jsonl:1: 'before' is missing",
    "apply empty.jsonl good.jsonl out.jsonl": "empty.jsonl: holds no corrections",
    "apply fix.jsonl none.jsonl out.jsonl": "none.jsonl: no such file or folder",
    "apply fix.jsonl empty.jsonl out.jsonl": "empty.jsonl: holds no utterances",
    "apply fix.jsonl good.jsonl good.jsonl": "good.jsonl: exists, and nothing is overwritten",
    "apply fix.jsonl good.jsonl folder": "OUT is 'folder', but must name a file that ends in",
    "apply fix.jsonl good.jsonl file/out.jsonl": "file: is a file, but must be a folder",
    "shard good.jsonl full": f"full: {TAKEN}",
    "shard good.jsonl file": f"file: {TAKEN}",
    "shard good.jsonl file/out": "file/out: cannot be written",
    "shard good.jsonl out --format mp3": "'mp3' is not one of 'flac', 'opus'",
    "shard good.jsonl out --shard-size 0": "Invalid value for '--shard-size'",
    "shard good.jsonl out --shard-seconds 0": "Invalid value for '--shard-seconds'",
    "shard good.jsonl out --workers -1": "Invalid value for '--workers'",
    "shard none.jsonl out": "none.jsonl: no such file or folder",
    "shard empty.jsonl out": "empty.jsonl: holds no utterances",
    "shard kaldi out": "none of the 1 rows can be used",
    "explore none.jsonl --out out.html": "none.jsonl: no such file or folder",
    "explore empty.jsonl --out out.html": "empty.jsonl: holds no utterances",
    "explore folder --out out.html": "folder: holds no data set",
    "explore good.jsonl --out folder": "--out is 'folder', but must name a file that ends in .html",
    "explore good.jsonl --out file/x.html": "file: is a file, but must be a folder",
    "explore good.jsonl --out out.html --max-seconds -1": "Invalid value for '--max-seconds'",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rows = [{"audio_filepath": f"{n}.wav", "text": f"text {n}", "speaker": n} for n in "abc"]
    for row in rows:
        write(folder / row["audio_filepath"])
    write_manifest(folder / "good.jsonl", *rows)
    mute = [{key: row[key] for key in ("audio_filepath", "text")} for row in rows]
    write_manifest(folder / "mute.jsonl", *mute)
    write_manifest(folder / "gone.jsonl", {"audio_filepath": "gone.wav", "text": "x"})
    fix = {"id": "a.wav", "audio_filepath": "a.wav", "before": "text a", "after": "text A"}
    write_manifest(folder / "fix.jsonl", fix)
    write_manifest(folder / "half.jsonl", {**fix, "before": None})
    write_manifest(folder / "text.jsonl", "no JSON")
    write_manifest(folder / "list.jsonl", "[1]")
    for name in ("folder", "full", "kaldi"):
        (folder / name).mkdir()
    for name, text in {
        "empty.jsonl": "",
        "file": "x",
        "full/x": "x",
        "bad.csv": "a;b\n1;2\n",
        "filter.yaml": "no_such_rule: 3\n",
        "kaldi/wav.scp": "r1 sox a.wav -t wav - |\n",
        "kaldi/text": "r1 x\n",
    }.items():
        (folder / name).write_text(text)
    (folder / "latin.jsonl").write_bytes(b'{"audio_filepath": "a.wav", "text": "\xe9"}\n')
    return folder


@pytest.mark.parametrize(("command", "sentence"), CASES.items(), ids=CASES)
def test_a_bad_input_is_one_sentence(place, monkeypatch, capsys, command, sentence):
    monkeypatch.chdir(place)
    before = {path: path.is_file() and path.read_bytes() for path in place.rglob("*")}
    code, _, error = run(monkeypatch, capsys, "data", *command.split())
    assert code == 2
    assert sentence in error.strip().splitlines()[-1]
    assert error.count("echo-asr: ") + error.count("Error: ") == 1
    assert {path: path.is_file() and path.read_bytes() for path in place.rglob("*")} == before
