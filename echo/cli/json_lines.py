"""`--log-format json`: a command's events as lines of JSON on the standard output."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any, Literal, TextIO

import typer

LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        help="Format of progress: text with a progress bar, or json, one line for each event and "
        "nothing else on standard output."
    ),
]


class JsonLines(logging.Handler):
    """Writes the events that a run records, and warnings."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event is not None:
            self.write(event)
        elif record.levelno >= logging.WARNING:
            self.write({"kind": "warning", "message": record.getMessage()})

    def write(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self.stream, flush=True)


@contextmanager
def log_as(log_format: Literal["text", "json"]) -> Iterator[JsonLines | None]:
    """Shows what a command logs in this format. For JSON, everything else that is printed goes to
    standard error.

    Yields:
        The handler, None for text.
    """
    if log_format == "text":
        yield None
        return
    # Read when tqdm is first imported, which no command does before it is called.
    os.environ["TQDM_DISABLE"] = "1"
    handler = JsonLines(sys.stdout)
    # Without a handler for the console, tqdm would add one, and with this one it adds another that
    # shows nothing either.
    silent = logging.StreamHandler(sys.stderr)
    silent.addFilter(lambda record: False)
    events, root = logging.getLogger("echo.events"), logging.getLogger()
    handlers, root.handlers = root.handlers, [handler, silent]
    events.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(sys.stderr):
            yield handler
    finally:
        root.handlers = handlers
        events.setLevel(logging.NOTSET)
