"""Whether a command ended as it should."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attempts import REFUSED, SAME, Attempt
from processes import UNFORESEEN, Child

SENTENCE = re.compile(r"^echo-asr: (.+)$", re.MULTILINE)
USAGE = re.compile(r"^Usage: .*^Error: ", re.MULTILINE | re.DOTALL)
LONGEST = 3_000  # characters of a sentence
# A result is complete where one of these is.
COMPLETE = ("evaluation.json", "comparison.json", "inspection.json", "pilot.json", "shards.jsonl")
ADDS = ("resume", "report", "average")  # to a folder that is there


@dataclass
class Verdict:
    """What came of an input. Without a `fault`, `end` is "a result" or "refused"."""

    number: int
    command: str
    what: str
    seconds: float
    end: str
    fault: str = ""
    said: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.number}: {self.command}\n   {self.what}\n   {self.fault}: {self.said}"


def judge(child: Child, good: Path) -> Verdict:
    attempt, err = child.attempt, child.output("stderr")
    fault = "; ".join(faults(child, err, good))
    said = err.strip().splitlines()[-1:] if err.strip() else [""]
    end = "a result" if child.code == 0 else "refused"
    shown = " ".join(one if len(one) < 80 else f"{one[:40]}..." for one in attempt.argv)
    what = attempt.what.encode(errors="backslashreplace").decode()
    shown = shown.encode(errors="backslashreplace").decode()
    return Verdict(attempt.number, shown, what, child.seconds, end, fault, said[0][:300])


def faults(child: Child, err: str, good: Path) -> Iterator[str]:
    attempt, code = child.attempt, child.code
    if code is None:
        yield "hangs"
    elif code < 0:
        yield f"ended by signal {-code}"
    elif code == UNFORESEEN or "Traceback (most recent call last)" in err:
        yield "traceback"
    elif code not in (0, 2):
        yield f"exit code {code}"
    elif code == 2:
        yield from told(attempt, err, child.output("stdout"))
        if any((attempt.here / "out" / name).exists() for name in COMPLETE):
            yield "an error, but a whole result"
        if attempt.expected == SAME:
            yield "refuses what is right"
    elif attempt.expected == REFUSED:
        yield "accepted"
    else:
        yield from strange(attempt, good)
    is_elsewhere = attempt.what.startswith(("out ", "out.html ", "--out "))
    if code is not None and attempt.command not in ADDS and not is_elsewhere:
        yield from left(attempt, good)


def told(attempt: Attempt, err: str, out: str) -> Iterator[str]:
    """What is wrong with how an error is told."""
    sentences = SENTENCE.findall(err)
    if len(sentences) > 1:
        yield f"{len(sentences)} sentences"
    if any(len(sentence) > LONGEST for sentence in sentences):
        yield "a sentence without end"
    # Commands that prepare data name each damaged row, and go on.
    shows_rows = attempt.command in ("data check", "data explore") and out
    names_rows = "WARNING: left out: " in err or shows_rows
    if not sentences and not USAGE.search(err) and not names_rows:
        yield "no sentence"


def left(attempt: Attempt, good: Path) -> Iterator[str]:
    """Files that are neither the input's nor in the folder of the result."""
    known = {"out", "out.html", "stdout", "stderr", "link"}
    for path in sorted(attempt.here.iterdir()):
        if path.name not in known and not (good / path.name).exists() and attempt.expected != SAME:
            yield f"leaves {path.name[:40]!r}"


def strange(attempt: Attempt, good: Path) -> Iterator[str]:
    """What a result should not hold, and how it differs from the right one."""
    out = attempt.here / "out"
    for path in sorted(out.rglob("*.json")) if out.is_dir() else ():
        if re.search(r"[:\s\[](NaN|-?Infinity)\b", path.read_text(errors="replace")):
            yield f"not a number in {path.relative_to(out)}"
    if attempt.expected == SAME:
        expected, found = heard(good / "evaluation"), heard(out)
        if found != expected:
            yield f"another result: {found} and not {expected}"
    elif attempt.command == "evaluate" and (out / "utterances.jsonl").exists():
        yield from heard_otherwise(attempt, out)


def heard(folder: Path) -> list[tuple[str, str]]:
    """What was said and heard, in an order of its own."""
    text = (folder / "utterances.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return sorted((row["reference"], row["hypothesis"]) for row in rows)


def heard_otherwise(attempt: Attempt, out: Path) -> Iterator[str]:
    """The summary must be that of the transcripts."""
    rows = [json.loads(line) for line in (out / "utterances.jsonl").read_text().splitlines()]
    found = json.loads((out / "evaluation.json").read_text())
    if found["utterances"] != len(rows):
        yield "other numbers of utterances"
    wrong = sum(row["wer"][k] for row in rows for k in ("substitutions", "deletions", "insertions"))
    counted = sum(found["wer"][k] for k in ("substitutions", "deletions", "insertions"))
    if counted != wrong:
        yield "other errors than the transcripts'"
