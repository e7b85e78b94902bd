"""The command line: what a user sees when something is wrong."""

import dataclasses
import inspect
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import typer

import echo
from echo import config
from echo.cli import app, main
from echo.evaluate import evaluation
from echo.pilot.contenders import Budget, PilotSettings
from echo.transcribe.transcribe import TranscribeSettings
from tests.data.recordings import write, write_manifest


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["echo-asr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    output = capsys.readouterr()
    return stopped.value.code, output.out, output.err


def manifest(folder, line):
    path = folder / "data.jsonl"
    path.write_text(line + "\n")
    return path


CASES = {
    "a missing config": (["train", "none.yaml"], "none.yaml: cannot be read"),
    "a wrong key": (["train", "configs/train.yaml", "trian.max_steps=1"], "unknown key 'trian'"),
    "a wrong override": (["train", "configs/train.yaml", "seed"], "'seed' is neither key=value"),
    "no data": (["train", "configs/train.yaml"], "data.train and data.eval must both be given"),
    "a missing manifest": (
        ["train", "configs/train.yaml", "data.train=no.jsonl", "data.eval=no.jsonl"],
        "no.jsonl",
    ),
    "a missing corpus": (
        ["pilot", "--config", "configs/pilot_digits.yaml", "data.root=nowhere"],
        "nowhere/recordings: no such folder",
    ),
    "a folder without a run": (["resume", "."], "is not a run folder"),
}


@pytest.mark.parametrize(("arguments", "message"), CASES.values(), ids=CASES.keys())
def test_an_error_is_one_sentence_and_exit_code_2(monkeypatch, capsys, request, arguments, message):
    monkeypatch.chdir(request.config.rootpath)
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert err.startswith("echo-asr: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "data.jsonl:1"),
        ('{"audio_filepath": "gone.wav", "duration": 1, "text": "one"}', "gone.wav"),
        ('{"audio_filepath": "gone.wav", "duration": 1}', "text"),
    ],
)
def test_a_bad_manifest_line_is_named(monkeypatch, capsys, tmp_path, line, message):
    path = manifest(tmp_path, line)
    code, _, err = run(monkeypatch, capsys, "evaluate", "no-model", path)
    assert code == 2
    assert message in err
    code, out, _ = run(monkeypatch, capsys, "data", "check", path)
    assert code == 2
    assert "data.jsonl:1" in out


def test_evaluating_what_is_no_model_is_an_error(monkeypatch, capsys, shared, tmp_path):
    data = shared / "data" / "librispeech" / "dev.jsonl"
    code, _, err = run(monkeypatch, capsys, "evaluate", tmp_path, data)
    assert code == 2
    assert "is neither a run nor a model" in err


def test_help_names_every_command(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "--help")
    assert code == 0
    for command in (
        "pilot",
        "train",
        "resume",
        "evaluate",
        "compare",
        "inspect",
        "transcribe",
        "convert",
        "export",
        "data",
    ):
        assert command in out


def test_every_shipped_config_can_be_read(request, monkeypatch, tmp_path):
    """Pilots with all their models, and single runs, from anywhere."""
    from echo.config import load_config
    from echo.pilot.contenders import read_pilot
    from echo.support.yaml import read_yaml

    monkeypatch.chdir(tmp_path)
    assert "models" in read_yaml("configs/pilot.yaml")
    assert load_config("configs/train.yaml", ["configs/attention/focus.yaml"]).model.attention
    paths = sorted((request.config.rootpath / "configs").glob("*.yaml"))
    assert len(paths) >= 4
    for path in paths:
        content = read_yaml(path)
        if "models" in content:
            pilot = read_pilot(content, str(path))
            names = {contender.name for contender in pilot.contenders}
            assert len(names) >= 2
            assert pilot.baseline in names
        else:
            load_config(path)


def test_a_terminal_shows_what_it_can_and_obeys_nothing(monkeypatch, tmp_path):
    """Transcripts and ids of other scripts, and with control characters, on an ASCII terminal."""
    write(tmp_path / "a.wav")
    row = {"audio_filepath": "a.wav", "text": "größer \x1b[2J 日本", "id": "ü\x1b[31m"}
    spec = write_manifest(tmp_path / "m.jsonl", row, row, {**row, "audio_filepath": "ü\x1b.wav"})
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, name, streams[name])
    for arguments in (["data", "check", spec], ["data", "check", f"{spec}ü\x1b[2J"]):
        monkeypatch.setattr(sys, "argv", ["echo-asr", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
    shown = {}
    for name, stream in streams.items():
        stream.flush()
        shown[name] = stream.buffer.getvalue().decode("ascii")
        assert "\x1b" not in shown[name]
    assert r"gr\xdf\xf6\u65e5\u672c" in shown["stdout"]  # the characters there are
    assert r"has the same id as" in shown["stdout"]
    assert r"m.jsonl\xfc\x1b[2J: no such file or folder" in shown["stderr"]


def test_a_data_set_is_written_as_shards(tmp_path, capsys, monkeypatch):
    write(tmp_path / "a.wav")
    source = write_manifest(tmp_path / "a.jsonl", {"audio_filepath": "a.wav", "text": "one"})
    out = tmp_path / "shards"
    arguments = ("data", "shard", source, out, "--format", "opus")
    code, output, _ = run(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "read 1 row, 0.00 hours; wrote 1 row, 0.00 hours, to 1 shards in" in output
    assert sorted(p.name for p in out.iterdir()) == ["shard-000000.tar", "shards.jsonl"]
    code, _, error = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert error == f"echo-asr: {out}: exists, and is not an empty folder; choose another\n"


def test_a_data_set_is_split_and_the_sides_compared(tmp_path, capsys, monkeypatch, caplog):
    """The sides share nothing, but one shares all with itself; a row that is damaged is named."""
    for i in range(4):
        write(tmp_path / "data" / f"{i}.wav", np.random.default_rng(i).random((16_000, 1)) - 0.5)
    rows = [
        {"audio_filepath": f"{i}.wav", "text": f"{i}", "speaker": f"{i}", "duration": 1}
        for i in range(5)
    ]
    source = write_manifest(tmp_path / "data" / "a.jsonl", *rows)
    out = tmp_path / "out"
    arguments = ("data", "split", source, "--out", out, "--dev", "25%")
    code, output, _ = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "no recording '4.wav'" in caplog.text
    assert "4 rows, 0.001 hours, and 1 rows that cannot be used" in output
    sides = [out / "train.jsonl", out / "dev.jsonl"]
    assert [len(side.read_text().splitlines()) for side in sides] == [3, 1]
    check = ("data", "split", "--check", "--allow-outside", *sides)
    code, output, _ = run(monkeypatch, capsys, *check)
    assert (code, output.splitlines()[-1]) == (0, "nothing is shared")
    code, output, _ = run(monkeypatch, capsys, *check, sides[0])
    assert code == 2
    for rule in ("speaker", "recording", "text", "sound"):
        assert f"{rule}, the first 3 of 3:" in output


def test_the_version_is_the_packages(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"echo-asr {echo.__version__}\n")


SLIPS = {
    "train": (["train", "configs/train.yaml", "train.max_step=1"], "did you mean train.max_steps?"),
    "train's data": (["train", "configs/train.yaml", "data.train=no.jsonl", "data.eval=b"], "no.j"),
    "train's init": (
        ["train", "configs/train.yaml", "data.corpus=espeak", "init=./gone"],
        "./gone: no such folder",
    ),
    "pilot": (
        ["pilot", "models.echo.train.learning_rat=1"],
        "did you mean models.echo.train.learning_rate?",
    ),
    "a search that writes": (
        ["train", "configs/train.yaml", "data.corpus=espeak", "--find-batch", "--out", "o"],
        "--find-batch writes nothing: leave out --out o",
    ),
    "resume": (["resume", "."], "is not a run folder"),
    "evaluate": (["evaluate", "a/b/c", "x.jsonl"], "a/b/c: no such folder"),
    **{
        f"a checkpoint of no run, {arguments[0]}": (
            [*arguments, "--checkpoint", "last"],
            f"--checkpoint has no effect: no run's folder: a/b{', c/d' * (arguments[2] == 'c/d')}",
        )
        for arguments in (
            ["compare", "a/b", "c/d", "--data", "x.jsonl", "--out", "o"],
            ["merge", "a/b", "c/d", "--weights", "1,0", "--out", "o"],
            ["evaluate", "a/b", "x.jsonl"],
            ["inspect", "a/b", "x.wav", "--out", "o"],
            ["transcribe", "x.wav", "--model", "a/b", "--out", "o"],
            ["convert", "a/b", "o"],
            ["export", "a/b", "o", "--to", "onnx"],
        )
    },
    "compare": (["compare", "a", "b", "--data", "gone.csv", "--out", "o"], "gone.csv: no such"),
    "convert": (["convert", "a/b/c", "o"], "a/b/c: no such folder"),
    "export": (["export", "a/b/c", "o", "--to", "onnx"], "a/b/c: no such folder"),
    "a target": (["export", "a", "o", "--to", "gguf"], "must be one of: whisper, ctranslate2"),
    "a preset": (["convert", "a/b", "o", "gone.yaml"], "gone.yaml: cannot be read"),
    "data check": (["data", "check", "gone.tsv"], "gone.tsv: no such file"),
    "data split": (["data", "split", "a.jsonl", "--dev", "5%"], "needs a folder and a size: --out"),
    "several to split": (["data", "split", "a", "b", "--dev", "5%"], "add --check"),
    "rules": (["data", "split", "a", "--by", "text,,"], "--by: 'text,,' must be different names"),
    "one side to check": (["data", "split", "a.jsonl", "--check"], "name at least two"),
    "a check that writes": (
        ["data", "split", "a", "b", "--check", "--out", "c", "--dev", "1%"],
        "--check writes nothing: leave out --out, --dev",
    ),
    "corrections into a page": (
        ["data", "apply", "c.jsonl", "a.jsonl", "a.html"],
        "OUT is 'a.html', but must name a file that ends in .jsonl",
    ),
    "a page that is no page": (
        ["data", "explore", "a.jsonl", "--out", "a.jsonl"],
        "--out is 'a.jsonl', but must name a file that ends in .html",
    ),
}


def test_a_slip_is_answered_without_heavy_imports(tmp_path):
    """In a process that has none of them to import."""
    code = """
import sys
for name in ("torch", "transformers", "numpy", "accelerate", "soundfile"):
    sys.modules[name] = None
from echo.cli import main
for arguments in eval(sys.argv.pop()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as stopped:
        print(stopped.code)
"""
    arguments = [arguments for arguments, _ in SLIPS.values()]
    done = subprocess.run(
        [sys.executable, "-c", code, repr(arguments)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["2"] * len(SLIPS), done.stderr
    for line, (_, message) in zip(done.stderr.splitlines(), SLIPS.values(), strict=True):
        assert message in line


SENTENCE = re.compile(r"[A-Z].*\w.*\.")


def test_every_option_has_a_sentence_of_help():
    def parameters(command, name):
        for parameter in command.params:
            yield f"{name} {parameter.name}", parameter
        for each, inner in getattr(command, "commands", {}).items():
            yield from parameters(inner, f"{name} {each}")

    found = dict(parameters(typer.main.get_command(app), "echo-asr"))
    assert len(found) > 60
    assert [n for n, p in found.items() if not SENTENCE.fullmatch(p.help or "")] == []
    # "Of a run." says nothing by itself.
    assert [n for n, p in found.items() if re.match(r"(Of|If|By|Where) ", p.help)] == []


def settings_classes():
    own = [c for c in vars(config).values() if dataclasses.is_dataclass(c)]
    return [c for c in own if c.__module__ == config.__name__] + [
        Budget,
        PilotSettings,
        TranscribeSettings,
    ]


@pytest.mark.parametrize("cls", settings_classes(), ids=lambda cls: cls.__name__)
def test_every_setting_has_a_sentence_above_it(cls):
    comments, said = [], {}
    for line in inspect.getsource(cls).splitlines():
        if comment := re.fullmatch(r"    # (.*)", line):
            comments.append(comment[1])
        elif name := re.match(r"    (\w+): ", line):
            said[name[1]], comments = " ".join(comments), []
    assert set(said) == {f.name for f in dataclasses.fields(cls)}
    assert [name for name, text in said.items() if not SENTENCE.fullmatch(text)] == []


@pytest.mark.slow
def test_padding_is_an_argument_and_stays_out_of_the_model(monkeypatch, capsys, tmp_path, shared):
    """The model hears the silence that the command line says, and its config stays as it is."""
    heard = {}
    transcribe = evaluation.transcribe_set

    def spy(loaded, *rest, limits):
        heard["padded"] = limits.padded(16_000)
        config = loaded.model.config
        heard["config"] = (config.pad_to_seconds, config.added_silence)
        return transcribe(loaded, *rest, limits=limits)

    monkeypatch.setattr(evaluation, "transcribe_set", spy)
    write(tmp_path / "a.wav")
    source = write_manifest(tmp_path / "a.jsonl", {"audio_filepath": "a.wav", "text": "one"})
    model = shared / "models" / "whisper-tiny.en"
    for options, samples in (
        ([], 30 * 16_000),
        (["--pad-to", "5"], 5 * 16_000),
        (["--pad-to", "0", "--added-silence", "2.5"], 56_000),
    ):
        assert run(monkeypatch, capsys, "evaluate", model, source, *options)[0] == 0
        assert heard == {"padded": samples, "config": (30.0, 0.0)}
    code, _, err = run(monkeypatch, capsys, "evaluate", model, source, "--added-silence", "2.5")
    assert code == 2
    assert (
        "added silence has no effect, because utterances are padded to the model's longest" in err
    )


def test_a_reader_that_leaves_ends_nothing(tmp_path):
    """As `| head -1` does, which a bar, a log and lines of output go to."""
    code = (
        "import logging, sys, time\n"
        "from echo.cli.entry import set_up_output\n"
        "set_up_output()\n"
        "print('first', flush=True)\n"
        "sys.stdin.read()\n"
        "print('more', flush=True)\n"
        "logging.getLogger('echo').warning('a warning')\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").exists()


def test_any_error_of_the_system_is_one_sentence(monkeypatch, capsys, tmp_path):
    for name in ("x" * 300 + ".yaml", "x" * 5000, "\udcff.yaml"):
        code, _, error = run(monkeypatch, capsys, "train", name)
        assert code == 2
        assert len(error) < 2000
        assert "\n" not in error.strip()
        assert error.startswith("echo-asr: ")
