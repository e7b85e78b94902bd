"""The corpora that Echo brings along or joins itself, from their settings."""

from pathlib import Path

from echo.config import DataSettings
from echo.data.corpora.espeak import SpokenCommands
from echo.data.corpora.fsdd import ConnectedDigits
from echo.data.utterance import Corpus


def built_in_corpus(settings: DataSettings, seed: int) -> Corpus:
    """Returns the corpus that `data.corpus` names; `check_data` tells whether it can.

    Raises:
        DataError: its folder is not as it should be, or eSpeak NG is needed and missing.
    """
    root = Path(settings.root) if settings.root else None
    if settings.corpus == "espeak":
        return SpokenCommands(root, split=settings.split)
    assert root is not None
    return ConnectedDigits(root, seed, split=settings.split)
