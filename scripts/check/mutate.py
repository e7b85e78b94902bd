"""Mutation testing: which small changes of a module no test notices.

Comparisons, arithmetic, constants, conditions and some calls are changed one at a time, in memory,
and the tests of the module run until one fails. Each mutant is a fork of one process that has
loaded the libraries already, so it costs little more than its tests. What survives is printed as a
line and what it became.

    python scripts/check/mutate.py echo/attention/windows.py
    python scripts/check/mutate.py echo/data/batching.py --minutes 5
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Tests that compile, export, start processes or learn for long are left out, so a line that only
# these notice is listed too.
SLOW = "compiles or half_precision or flex or export or graphs or learns_within or move_to or ranks"
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torchaudio",
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.whisper.tokenization_whisper",
    "accelerate",
    "datasets",
    "evaluate",
    "hypothesis",
    "tensorboard",
    "torch.utils.tensorboard",
    "pytest",
)
HANGS_S = 60  # longer than without a change: a mutant that takes it counts as one that hangs
PAIRS = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
)
COMPARISONS: dict[type, type] = dict([*PAIRS, *(pair[::-1] for pair in PAIRS)])
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
DROPPED = ("abs", "clamp", "detach", "floor", "masked_fill", "append", "clear", "shuffle")


def changes(node: ast.AST) -> list[ast.AST]:
    """What may stand in a node's place."""
    found: list[Any] = []
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            found.append(copy.copy(node))
            found[0].ops = [COMPARISONS[type(op)]()]
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            found.append(copy.copy(node))
            found[0].op = OPERATORS[type(op)]()
        case ast.BoolOp(op=op):
            found.append(copy.copy(node))
            found[0].op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(operand=operand):
            found.append(operand)
        case ast.IfExp():
            found += [node.body, node.orelse]
        case ast.Constant(value=bool()):
            found.append(ast.Constant(not node.value))
        case ast.Constant(value=int() | float()):
            found.append(ast.Constant(node.value + 1))
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in DROPPED:
            found.append(value)
    return [ast.copy_location(change, node) for change in found]


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Where the expressions of a module are: parent, field, and place in the field's list.
    Annotations and decorators are left out."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                yield node, field, index if isinstance(value, list) else None
                yield from places(child)


def mutants(source: str) -> Iterator[tuple[int, str, str, str]]:
    """All mutants of a module: the line, what stood there, what stands there now, the source."""
    tree = ast.parse(source)
    for parent, field, index in places(tree):
        siblings = getattr(parent, field)
        node = siblings if index is None else siblings[index]
        for change in changes(node):
            put(parent, field, index, change)
            yield node.lineno, ast.unparse(node), ast.unparse(change), ast.unparse(tree)
            put(parent, field, index, node)


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


class Mutated(importlib.abc.MetaPathFinder, SourceFileLoader):
    """Imports one module from another source than its file's."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self.source = source

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> Any:
        return compile(self.source, self.path, "exec")


def tests_of(module: Path) -> list[str]:
    """Returns the module's own tests, which come first because a mutant costs as long as they take
    until one fails, and those of its package."""
    package = Path("tests", *module.parent.parts[1:])
    own = package / f"test_{module.stem}.py"
    return [str(path) for path in (own, package) if path.exists()]


def passes(module: Path, source: str, tests: Sequence[str], limit: int = 0) -> bool:
    """Whether the tests pass with this source of a module, in a process of their own. One that
    takes more than `limit` seconds does not, if a limit is given."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        signal.alarm(limit)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        name = ".".join(module.with_suffix("").parts)
        sys.meta_path.insert(0, Mutated(name, ROOT / module, source))
        import pytest

        chosen = ["-m", "not slow", "-k", f"not ({SLOW})"]
        options = ["-x", "-q", "-n", "0", "-n", "0", "-p", "no:cacheprovider", *chosen]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="+", type=Path, help="files, from the project's root")
    parser.add_argument("--tests", nargs="+", help="test files; by default those of its package")
    parser.add_argument("--minutes", type=float, help="for each module; mutants are then a sample")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for library in LIBRARIES:
        importlib.import_module(library)
    for module in arguments.modules:
        tests = arguments.tests or tests_of(module)
        source = module.read_text()
        started = time.monotonic()
        if not passes(module, source, tests):
            sys.exit(f"{module}: its tests fail without any change")
        limit = HANGS_S + 2 * round(time.monotonic() - started)
        found = list(mutants(source))
        random.Random(0).shuffle(found)
        started, survived, tried = time.monotonic(), 0, 0
        for line, before, after, changed in found:
            if arguments.minutes and time.monotonic() - started > 60 * arguments.minutes:
                break
            tried += 1
            if passes(module, changed, tests, limit):
                survived += 1
                print(f"{module}:{line}: {before}  ->  {after}", flush=True)
        print(
            f"{module}: {len(found)} mutants, {tried} tried, {tried - survived} killed, "
            f"{survived} survived",
            flush=True,
        )


if __name__ == "__main__":
    main()
