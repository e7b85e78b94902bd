"""The command line. Each command parses, calls one function and prints what it returns."""

from echo.cli.entry import app, main

__all__ = ["app", "main"]
