"""What a result was made with: the command, the date, versions and hardware."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from echo.support.files import read_object, replace_text

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy")
COMMAND = "echo-asr"
PROVENANCE_FILE = "provenance.json"


def write_provenance(folder: Path, **about: Any) -> None:
    """Writes `provenance.json` into a folder of results, with what else there is to say of them."""
    content = {**provenance(), **about}
    replace_text(folder / PROVENANCE_FILE, json.dumps(content, indent=2) + "\n")


def read_provenance(folder: Path) -> dict[str, Any]:
    """Reads what `write_provenance` wrote; empty in a folder of an earlier version."""
    path = folder / PROVENANCE_FILE
    return read_object(path) if path.exists() else {}


def provenance() -> dict[str, Any]:
    """The `command` (None in a program of one's own), the `date` in UTC, the `versions` of Python,
    Echo and the packages that figures depend on, the `commit` (None unless Echo runs from a git
    checkout), and the `hardware`, of which the cores are those that may be used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "hardware": {
            "processor": processor(),
            "cores": cores,
            "threads": torch.get_num_threads(),
            "memory_bytes": psutil.virtual_memory().total,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def command() -> str | None:
    """Returns the command line that was given to Echo."""
    program, *arguments = sys.argv or [""]
    path = Path(program)
    if path.name != COMMAND and not (path.name == "__main__.py" and path.parent.name == "echo"):
        return None
    return shlex.join([COMMAND, *arguments])


def versions() -> dict[str, str]:
    # Not imported: the package's own module names everything that it offers, and so imports it.
    echo = sys.modules["echo"]
    found = {"echo-asr": echo.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # imported from a folder that was never installed
            continue
    return found


def commit() -> str | None:
    """Returns the commit of the checkout that Echo runs from, with "-dirty" if files that git knows
    have changed since; None where there is no checkout or no git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        done = subprocess.run(["git", "-C", str(root), *describe], capture_output=True, text=True)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """Returns the processor's name as Linux reports it, or else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
