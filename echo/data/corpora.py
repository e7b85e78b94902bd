"""A run's corpus, from its settings."""

from pathlib import Path

from echo.config import DataSettings
from echo.data.utterance import Corpus
from echo.errors import ConfigError


def build_corpus(settings: DataSettings, seed: int) -> Corpus:
    """The built-in corpus that is named, or the sources `data.train` and `data.eval`.

    Raises:
        ConfigError: the settings name no data, or data of both kinds.
        DataError: the data are not as they should be.
    """
    if settings.corpus and (settings.train or settings.eval or settings.cache):
        raise ConfigError(
            "data.corpus excludes data.train, data.eval and their data.cache: name one or the other"
        )
    if settings.corpus == "fsdd":
        from echo.data.fsdd import ConnectedDigits

        if settings.root is None:
            raise ConfigError("data.root must say where the Free Spoken Digit Dataset lies")
        return ConnectedDigits(Path(settings.root), seed)
    if settings.corpus == "espeak":
        from echo.data.espeak import SpokenCommands

        return SpokenCommands(cache=Path(settings.root) if settings.root else None)
    from echo.data.sources import Columns, read_source
    from echo.data.utterance import FixedCorpus

    if not settings.train or not settings.eval:
        raise ConfigError("data.train and data.eval must both be given, or data.corpus")
    columns = Columns(settings.audio_column, settings.text_column, settings.speaker_column)
    further = (columns, settings.on_error, settings.allow_outside)
    train = read_source(settings.train, *further)
    evaluated = read_source(settings.eval, *further)
    if settings.cache is not None:
        from echo.data.cache import AudioCache

        cache = AudioCache(Path(settings.cache), round(settings.cache_gigabytes * 1e9))
        train, evaluated = cache.over(train), cache.over(evaluated)
    return FixedCorpus(train, evaluated)
