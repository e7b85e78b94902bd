"""What can be said of a run's data before anything heavy is imported."""

from itertools import chain
from pathlib import Path

from echo.config import DataSettings, SourceSettings
from echo.support.errors import ConfigError, DataError

MANIFESTS = (".jsonl", ".json")
TABLES = (".csv", ".tsv")


def check_data(settings: DataSettings) -> None:
    """Checks that the settings name data of one kind, and that files and folders they name exist.

    Raises:
        ConfigError: the settings name no data, data of both kinds, or a folder that does not exist.
        DataError: a file does not exist.
    """
    for name in ("noise", "reverb"):
        if heard := getattr(settings.augment, name):
            check_folder(Path(heard.folder), f"data.augment.{name}.folder")
    if settings.corpus and (settings.train or settings.eval or settings.cache):
        raise ConfigError(
            "data.corpus excludes data.train, data.eval and their data.cache: name one or the other"
        )
    if settings.corpus:
        if settings.corpus == "fsdd" and settings.root is None:
            raise ConfigError("data.root must name the folder of the Free Spoken Digit Dataset")
        return
    if settings.split == "dev":
        raise ConfigError("data.split is for a built-in corpus; name the dev set in data.eval")
    if not settings.train or not settings.eval:
        raise ConfigError("data.train and data.eval must both be given, or data.corpus")
    trained = [each.source for each in training_sources(settings)]
    for spec in chain(trained, *evaluation_sources(settings).values()):
        check_named(spec)


def check_named(spec: str) -> None:
    """Raises DataError if a source does not exist whose name can only be a manifest's or a
    table's."""
    path = Path(spec)
    if path.suffix.lower() in MANIFESTS + TABLES and "@" not in spec and not path.exists():
        raise DataError(f"{spec}: no such file or folder")


def evaluation_sources(settings: DataSettings) -> dict[str, list[str]]:
    """Returns the sources of each set of `data.eval` by its name, or the built-in corpus; a single
    set has the name ""."""
    if isinstance(settings.eval, dict):
        return {name: [source] for name, source in settings.eval.items()}
    if isinstance(settings.eval, list):
        return {"": settings.eval}
    return {"": [settings.eval or settings.corpus or ""]}


def check_folder(folder: Path, setting: str) -> None:
    """Raises ConfigError, naming the setting that named a folder, unless it exists."""
    if not folder.is_dir():
        raise ConfigError(f"{setting}: {folder}: no such folder")


def training_sources(settings: DataSettings) -> list[SourceSettings]:
    """Returns the sources of `data.train` with their weights."""
    train = [settings.train] if isinstance(settings.train, str) else settings.train or []
    return [SourceSettings(each) if isinstance(each, str) else each for each in train]
