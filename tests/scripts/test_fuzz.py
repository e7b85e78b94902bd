"""A sample of the hostile inputs that `scripts/check/fuzz` gives to every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_input_ends_with_a_result_or_a_sentence(tmp_path):
    """None with a traceback, a crash, without end, or with another result than the right one."""
    command = [sys.executable, ROOT / "scripts/check/fuzz", "--inputs", "40", "--seed", "3"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    rows = [json.loads(line) for line in (tmp_path / "fuzz.jsonl").read_text().splitlines()]
    assert len(rows) == 40, done.stderr[-2000:]
    assert {row["end"] for row in rows} == {"a result", "refused"}  # both are tried
    assert [row for row in rows if row["fault"]] == []
    assert done.returncode == 0
