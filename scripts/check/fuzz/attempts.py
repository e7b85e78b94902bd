"""Which command is given which input: drawn by a seed and the input's number, so that each can be
tried again by itself."""

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damage import damage

from echo.config import RunConfig
from echo.support.settings import to_dict

EVALUATE = "evaluate whisper data/data.jsonl --out out"
# Each command, and what it reads. What it writes is in `out`, but for those that add to a folder.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    EVALUATE: ("whisper", "data/data.jsonl", "data/*.wav"),
    "evaluate echo data/data.csv --out out --beams 2": ("echo", "data/data.csv"),
    "evaluate run data/folder --out out": ("run", "run/*/*", "data/folder/*"),
    "evaluate whisper data/saved --out out --skip-errors": ("data/saved/*",),
    "evaluate whisper --data a=data/data.tsv --data b=data/data.parquet --out out": (
        *("data/data.tsv", "data/data.parquet"),
    ),
    "compare whisper echo --data data/data.jsonl --out out": ("whisper", "echo", "data/data.jsonl"),
    "transcribe data --model whisper --out out --format json,srt,vtt,tsv": (
        *("whisper", "data/*.flac", "data/*.mp3", "data/*.ogg"),
    ),
    "transcribe data/0.mp3 data/1.ogg --model run --out out --int8": ("data/0.mp3", "data/1.ogg"),
    "merge whisper whisper --weights 0.5,0.5 --out out": ("whisper",),
    "merge run run --weights 0.2,0.8 --out out": ("run/*/*",),
    "average run --best 2 --out out": ("run", "run/*/*"),
    "resume run train.max_steps=3": ("run", "run/*/*"),
    "train run.yaml --out out": ("run.yaml", "data/data.jsonl", "data/*.wav"),
    "train run.yaml data.train=shards/shard-*.tar --out out": ("shards/*",),
    "pilot --config pilot.yaml --out out": ("pilot.yaml",),
    "convert whisper out": ("whisper",),
    "convert echo out --dtype float16": ("echo",),
    "export whisper out --to ggml": ("whisper",),
    "export run out --to whisper": ("run/*/*",),
    "inspect run data/0.wav --out out": ("run/*/*", "data/0.wav"),
    "report evaluation": ("evaluation",),
    "report comparison": ("comparison", "comparison/*"),
    "report run": ("run",),
    "data check data/data.jsonl": ("data/data.jsonl", "data/*.wav"),
    "data check shards": ("shards/*",),
    "data explore data/data.tsv --out out.html": ("data/data.tsv", "data/*.wav"),
    "data shard data/data.csv out --workers 0": ("data/data.csv", "data/*.wav"),
    "data convert data/data.jsonl out --to kaldi": ("data/data.jsonl", "data/*.wav"),
    "data label data/data.jsonl --model whisper --out out": ("whisper", "data/data.jsonl"),
    "data convert data/data.csv out --to lhotse": ("data/data.csv", "data/*.wav"),
}
TEXTS = ("", " ", "-", "--", ".", "/", "..", "a" * 300, "²", "9" * 5_000, "\udcff", "\u202e", "x=y")
NUMBERS = ("-1", "0", "nan", "inf", "1e999", "-1e-400", str(2**31), str(2**63), "1" * 5_000, "٣")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "evaluate": (
        *("--beams", "--ctc-weight", "--pad-to", "--added-silence", "--language", "--task"),
        *("--noise", "--snr", "--checkpoint", "--normaliser", "--text-column", "--audio-column"),
    ),
    "compare": ("--by", "--beams", "--language", "--text-column", "--checkpoint"),
    "transcribe": (
        *("--format", "--language", "--prompt", "--hotwords", "--max-line-width", "--beams"),
        *("--max-line-count", "--batch-size", "--task", "--words"),
    ),
    "merge": ("--weights", "--sweep", "--data", "--best-by", "--utterances"),
    "average": ("--best", "--out"),
    "train": ("--log-format", "--out"),
    "resume": ("--log-format",),
    "pilot": ("--config", "--out"),
    "convert": ("--dtype", "--checkpoint"),
    "export": ("--to", "--quantization"),
    "inspect": ("--checkpoint", "--out"),
    "report": ("--out",),
    "data": (
        "--max-seconds",
        "--shard-size",
        "--format",
        "--speaker-column",
        "--text-column",
        "--part",
    ),
}
ENVIRONMENTS: tuple[Mapping[str, str], ...] = (
    *({name: value} for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") for value in ("abc", "", "²")),
    *({"MPLBACKEND": "nope"}, {"COLUMNS": "abc"}, {"TQDM_DISABLE": "x"}, {"TQDM_MININTERVAL": "x"}),
    *({"OMP_NUM_THREADS": "x"}, {"HF_HOME": "/dev/null"}, {"TMPDIR": "/nowhere"}, {"HOME": "/x"}),
    *({"LC_ALL": "C", "LANG": "C"}, {"PYTHONHASHSEED": "7"}, {"CUDA_VISIBLE_DEVICES": "x"}),
    *({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, {"ACCELERATE_MIXED_PRECISION": "x"}),
    *({"ACCELERATE_USE_CPU": "x"}, {"ACCELERATE_DYNAMO_BACKEND": "x"}, {"TORCH_LOGS": "x"}),
)
SAME = "same result"
REFUSED = "an error"
# To train for long is no fault.
LONG = ("train.max_steps", "train.max_seconds", "train.accumulation", "train.eval_utterances")


@dataclass
class Attempt:
    """A command line in a folder of its own."""

    number: int
    argv: list[str]
    here: Path
    what: str  # is wrong with it
    environment: Mapping[str, str] = field(default_factory=dict)
    expected: str | None = None  # SAME as of the good input, REFUSED, or not known

    @property
    def command(self) -> str:
        return " ".join(self.argv[: 2 if self.argv[:1] == ["data"] else 1])

    def remove(self) -> None:
        shutil.rmtree(self.here, ignore_errors=True)


def draw(seed: int, number: int, good: Path, here: Path) -> Attempt:
    """Makes an input in a new folder."""
    rng = random.Random(f"{seed}-{number}")
    shutil.copytree(good, here, symlinks=True)
    kinds = [damaged] * 10 + [option] * 3 + [setting] * 4 + [environment] * 2 + [same] * 4
    return rng.choice(kinds)(rng, number, here)


def damaged(rng: random.Random, number: int, here: Path) -> Attempt:
    """A file that the command reads is not as it should be."""
    command = rng.choice([*COMMANDS])
    pattern = rng.choice(COMMANDS[command])
    folder = here / pattern
    found = folder.iterdir() if folder.is_dir() else here.glob(pattern)
    path = rng.choice(sorted(each for each in found if each.is_file()))
    what = damage(rng, path)
    return Attempt(number, command.split(), here, f"{path.relative_to(here).parent}/{what}")


def option(rng: random.Random, number: int, here: Path) -> Attempt:
    """An option or argument that means nothing."""
    argv = rng.choice([*COMMANDS]).split()
    value = rng.choice(NUMBERS if rng.random() < 0.6 else TEXTS)
    if rng.random() < 0.3:
        place = rng.randrange(1, len(argv))
        what = f"{argv[place]} after {argv[place - 1]} is {value[:40]!r}"
        argv[place] = value
        return Attempt(number, argv, here, what)
    name = rng.choice(OPTIONS[argv[0]])
    return Attempt(number, [*argv, name, value], here, f"{name} {value[:40]!r}")


def setting(rng: random.Random, number: int, here: Path) -> Attempt:
    """A setting of a run that cannot be right, mostly."""
    keys = [key for key in settings(to_dict(RunConfig())) if key not in LONG]
    key, value = (
        rng.choice(keys),
        rng.choice((*NUMBERS, *TEXTS, "null", "[]", "{}", "[1, 2]", "no")),
    )
    argv = ["train", "run.yaml", f"{key}={value}", "--out", "out"]
    return Attempt(number, argv, here, f"{key}={value[:40]!r}")


def settings(content: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from settings(value, f"{before}{key}.")


def environment(rng: random.Random, number: int, here: Path) -> Attempt:
    """A variable of another tool's, or a strange one."""
    command = rng.choice([*COMMANDS])
    variables = rng.choice(ENVIRONMENTS)
    by_launcher = any(name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") for name in variables)
    expected = SAME if command == EVALUATE and not by_launcher else None
    return Attempt(number, command.split(), here, f"{variables}", variables, expected)


def same(rng: random.Random, number: int, here: Path) -> Attempt:
    """The same data, written down in another way."""
    name = rng.choice([*FORMS])
    data = FORMS[name](here)
    argv = ["evaluate", "whisper", data, "--out", "out"]
    return Attempt(number, argv, here, name, expected=SAME)


def rewrite(change: Callable[[list[dict[str, Any]]], str], encoding: str = "utf-8") -> Any:
    def apply(here: Path) -> str:
        path = here / "data/data.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_bytes(change(rows).encode(encoding))
        return "data/data.jsonl"

    return apply


def lines(rows: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(row) + end for row in rows)


def linked(here: Path) -> str:
    (here / "link").symlink_to(here / "data")
    return "link/data.jsonl"


def moved(name: str) -> Callable[[Path], str]:
    def apply(here: Path) -> str:
        (here / "data").rename(here / name)
        return f"{name}/data.jsonl"

    return apply


def renamed(kind: str) -> Any:
    return rewrite(
        lambda rows: lines([{**r, "audio_filepath": r["audio_filepath"][:-3] + kind} for r in rows])
    )


FORMS: Mapping[str, Callable[[Path], str]] = {
    "a byte order mark": rewrite(lines, "utf-8-sig"),
    "lines that end as in Windows": rewrite(lambda rows: lines(rows, "\r\n")),
    "no end of the last line": rewrite(lambda rows: lines(rows).rstrip()),
    "empty lines": rewrite(lambda rows: "\n" + lines(rows, "\n\n")),
    "other orders of keys": rewrite(lambda rows: lines([dict([*r.items()][::-1]) for r in rows])),
    "no durations": rewrite(lambda rows: lines([{**r, "duration": None} for r in rows])),
    "other orders of rows": rewrite(lambda rows: lines(rows[::-1])),
    "further columns": rewrite(lambda rows: lines([{**r, "x": [1, {"y": None}]} for r in rows])),
    "spaces around texts": rewrite(
        lambda rows: lines([{**r, "text": f" {r['text']}"} for r in rows])
    ),
    "FLAC": renamed("flac"),
    "a table": lambda here: "data/data.csv",
    "a table with tabs": lambda here: "data/data.tsv",
    "a folder with metadata.csv": lambda here: "data/folder",
    "a saved data set": lambda here: "data/saved",
    "Parquet": lambda here: "data/data.parquet",
    "tar shards": lambda here: "shards",
    "a link to a folder": linked,
    "a folder with a bracket": moved("take[1]"),
    "a folder with a star": moved("a*b"),
    "a folder with braces and spaces": moved("{a,b} c"),
    "a folder that is not UTF-8": moved("caf\udce9"),
    "an absolute path": lambda here: str(here / "data/data.jsonl"),
}
