"""Commands that write pages. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or of a result of pilot, compare or evaluate."),
    ],
) -> None:
    """Write report.html, a page that shows a result, into its folder."""
    from echo.report.write import write_report

    print(f"The page is {write_report(folder)}")
