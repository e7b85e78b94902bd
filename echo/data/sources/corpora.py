"""The built-in corpora, and as sources their evaluation sets: fsdd:FOLDER, espeak: or espeak:CACHE,
and their dev splits, fsdd:FOLDER@dev."""

from pathlib import Path
from typing import get_args

from echo.config import DataSettings, Split
from echo.data.corpora.espeak import SpokenCommands
from echo.data.corpora.fsdd import ConnectedDigits
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import Row, Rows
from echo.data.utterance import Corpus, all_evaluated
from echo.support.errors import DataError
from echo.support.settings import build

CORPORA = ("fsdd", "espeak")


def built_in_corpus(settings: DataSettings, seed: int) -> Corpus:
    """Returns the corpus that `data.corpus` names; `check_data` tells whether it can."""
    root = Path(settings.root) if settings.root else None
    if settings.corpus == "espeak":
        return SpokenCommands(root, split=settings.split)
    assert root is not None
    return ConnectedDigits(root, seed, split=settings.split)


class CorpusReader(Reader):
    """Reads what a run on a built-in corpus is measured on."""

    def takes(self, spec: str) -> bool:
        name, colon, _ = spec.partition(":")
        return name in CORPORA and bool(colon) and not Path(spec).exists()

    def read(self, spec: str, options: ReadOptions) -> Rows:
        corpus = built_in_corpus(corpus_settings(spec), seed=0)
        for utterance in all_evaluated(corpus.eval_utterances()):
            columns = ("id", "audio", "text", "duration", "speaker")
            record = {name: getattr(utterance, name) for name in columns}
            yield Row(utterance.where, record, columns=options.columns)


def corpus_settings(spec: str) -> DataSettings:
    """Returns the settings of the corpus that a source names, if there is such a one."""
    name, _, rest = spec.partition(":")
    root, _, split = rest.rpartition("@")
    if "@" not in rest or "/" in split:
        root, split = rest, "test"
    if split not in get_args(Split):
        known = " and ".join(get_args(Split))
        raise DataError(f"{spec}: the corpus has no split {split!r}; it has {known}")
    if name == "fsdd" and not root:
        raise DataError(f"{spec}: must name the corpus's folder, as fsdd:FOLDER")
    return build(DataSettings, {"corpus": name, "root": root or None, "split": split}, spec)
