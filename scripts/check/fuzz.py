"""Tries every reader on damaged files, as many of each kind as it is told, others every time:

    python scripts/check/fuzz.py --examples 5000

What fails is shown with the smallest input that does it; the seed makes it happen again.
"""

import argparse
import os
import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description="Try every reader on damaged files.")
    parser.add_argument("--examples", type=int, default=1000, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", help="pytest's -k: some kinds alone")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.examples} examples of each kind")
    os.environ["ECHO_FUZZ_EXAMPLES"] = str(arguments.examples)
    os.chdir(ROOT)
    tests = ["tests/test_fuzz.py", "--durations=0", "--durations-min=1"]
    return pytest.main([*tests, f"--hypothesis-seed={arguments.seed}", "-k", arguments.only])


if __name__ == "__main__":
    sys.exit(main())
