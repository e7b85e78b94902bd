"""What several commands share: arguments and options."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from echo.support.errors import ConfigError
from echo.support.hub import check_model
from echo.support.text import brief

if TYPE_CHECKING:
    from echo.data.sources import ReadOptions


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE|FILE.yaml]...",
        help="Settings to change, or YAML files that change some; later ones win.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]
Model = Annotated[str, typer.Argument(help="A run's folder, a model's folder, or a hub id.")]
DATA_HELP = (
    "A manifest, table, folder, pattern of shards or hub id, or the test split of a built-in "
    "corpus, fsdd:FOLDER or espeak:, with @dev its dev split."
)
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
Normaliser = Annotated[
    Literal["whisper", "leaderboard"],
    typer.Option(
        help="How texts are normalised: as Whisper's, by the language, or as those of the Open ASR "
        "Leaderboard, which is for English and leaves out utterances without words."
    ),
]
Checkpoint = Annotated[
    Literal["best", "last"], typer.Option(help="Which checkpoint of a run to use.")
]
Beams = Annotated[int, typer.Option(min=1, max=1000, help="Number of beams; 1 is greedy decoding.")]
Language = Annotated[
    str | None,
    typer.Option(
        help="Language of the recordings, such as de or german; by default the model's own."
    ),
]
Task = Annotated[
    Literal["transcribe", "translate"] | None,
    typer.Option(
        help="Whether a multilingual model transcribes or translates to English; by default what "
        "it was trained for."
    ),
]
Vad = Annotated[
    Literal["energy", "silero"],
    typer.Option(
        help="What tells speech from other sounds: how loud it is, or Silero's detector, of the "
        "extra vad."
    ),
]
AudioColumn = Annotated[
    str | None,
    typer.Option(help="Column of the recordings; by default one of the usual names."),
]
TextColumn = Annotated[
    str | None,
    typer.Option(help="Column of the transcripts; by default one of the usual names."),
]
SpeakerColumn = Annotated[
    str | None,
    typer.Option(help="Column of the speakers; by default one of the usual names."),
]
SkipErrors = Annotated[
    bool,
    typer.Option(
        "--skip-errors",
        help="Log and leave out utterances that cannot be used, instead of stopping at the first.",
    ),
]
AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside", help="Also read recordings outside the folder of the data set."
    ),
]
MaxSeconds = Annotated[float, typer.Option(min=0, help="Longest recording to accept, in seconds.")]


def check_models(models: Sequence[str], checkpoint: str) -> None:
    """Raises DataError unless each model exists or its name can be a hub id, and ConfigError for a
    checkpoint that is asked for where no model is a run."""
    for model in models:
        check_model(model)
    runs = [model for model in models if (Path(model) / "config.yaml").exists()]
    if checkpoint != "best" and not runs:
        raise ConfigError(f"--checkpoint has no effect: no run's folder: {', '.join(models)}")


def read_options(
    audio: str | None, text: str | None, speaker: str | None, skip_errors: bool, outside: bool
) -> "ReadOptions":
    """Returns how a data set is read by the options above. Imports what reads it."""
    from echo.data.sources import Columns, ReadOptions

    return ReadOptions(Columns(audio, text, speaker), "skip" if skip_errors else "raise", outside)


def read_sources(named: list[str]) -> dict[str, str]:
    """Parses data sets of NAME=SOURCE by name; a single one needs no name."""
    from echo.config import SET_NAME

    sources: dict[str, str] = {}
    for text in named:
        name, equals, source = text.partition("=")
        if not equals or not SET_NAME.fullmatch(name) or Path(text).exists():
            name, source = "", text
        if name in sources or (not name and len(named) > 1):
            raise ConfigError(f"--data {brief(text)!r}: each of several needs a name, NAME=SOURCE")
        sources[name] = source
    return sources


def read_data_sets(named: list[str]) -> str | dict[str, str]:
    """Parses what --data was given, and checks what can be checked by the names alone. Returns a
    single source itself, and several by name."""
    from echo.data.named import check_named

    sources = read_sources(named)
    for source in sources.values():
        check_named(source)
    return sources if len(sources) > 1 else next(iter(sources.values()))
