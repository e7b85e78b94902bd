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
        help="Show progress as text and a bar, or write each event as a line of JSON to the "
        "standard output and nothing else there."
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
    """Within, what a command logs is shown in this format. What anything prints goes to the
    standard error where the format is JSON.

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
