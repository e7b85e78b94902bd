"""What a model hears in the rows of a data set beside their texts, and whether it was trained on
these."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from echo.checkpoints.load import LoadedModel, load_model, model_folder
from echo.config import DecodeSettings, load_config
from echo.data.fingerprint import describe
from echo.data.named import training_sources
from echo.data.prepare.filter.filter import origins
from echo.data.prepare.filter.measures import Measured, key_of
from echo.data.prepare.filter.rules import Heard
from echo.data.prepare.kept_lines import KeptLines
from echo.data.utterance import Utterance
from echo.evaluate.alignment import Alignment, align
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.normaliser import row_normalisers
from echo.evaluate.wer import character_errors
from echo.support.errors import ConfigError, DataError
from echo.support.progress import progress_bar
from echo.support.provenance import read_provenance

logger = logging.getLogger(__name__)

HEARD = "heard.jsonl"
TOGETHER = 32  # rows that are transcribed before what was heard is kept
EDGE_WORDS = 3
EDGE_LETTERS = 6  # in a language without spaces between words


@dataclass(frozen=True)
class Hearing:
    """Transcribes rows with a model, and keeps what it heard in a file, by row and model, so that
    each row is transcribed once. Warns if the model was trained on them."""

    model: str
    which: str
    key: str  # of the model's files
    data: str  # the source of the rows
    file: Path | None = None
    progress: bool = False

    @classmethod
    def of(cls, model: str, which: str, data: str, file: Path | None, progress: bool) -> "Hearing":
        """Raises DataError if there is no such model."""
        return cls(model, which, model_key(model, which), data, file, progress)

    def __call__(self, rows: Mapping[int, Measured], wanted: Sequence[int]) -> dict[int, Heard]:
        if run := trained_on(self.model, self.data, [row.utterance for row in rows.values()]):
            logger.warning(
                "%s was trained on these data (%s), whose mistakes it may have learned",
                self.model,
                run,
            )
        kept = KeptLines(self.file)
        row_keys = {i: key_of(rows[i].utterance) for i in wanted}
        keys = {i: f"{self.key} {key}" for i, key in row_keys.items() if key is not None}
        found = {i: Heard(**kept.entries[k]) for i, k in keys.items() if k in kept.entries}
        pending = [i for i in wanted if i not in found]
        if not pending:
            return found
        loaded = load_model(self.model, self.which)
        bar = progress_bar(total=len(pending), desc="hearing", unit=" rows", shown=self.progress)
        with bar:
            for first in range(0, len(pending), TOGETHER):
                part = pending[first : first + TOGETHER]
                for i, heard in hear(loaded, {i: rows[i].utterance for i in part}).items():
                    found[i] = heard
                    if i in keys:
                        kept.add(keys[i], asdict(heard))
                bar.update(len(part))
        return found


def model_key(model: str, which: str) -> str:
    """Returns what a model's transcripts depend on, in brief: its files."""
    files = sorted(path for path in model_folder(model, which).iterdir() if path.is_file())
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return blake2b(repr(states).encode(), digest_size=8).hexdigest()


def hear(loaded: LoadedModel, utterances: Mapping[int, Utterance]) -> dict[int, Heard]:
    """Transcribes utterances, and compares what is heard with their texts, both normalised. Those
    that cannot be transcribed are logged and left out."""
    numbered = [replace(utterance, id=str(i)) for i, utterance in utterances.items()]
    try:
        found = transcribe_set(loaded, numbered, DecodeSettings(), "skip")
    except DataError:  # none of them can
        return {}
    normalisers = row_normalisers(loaded, found.utterances)
    result = {}
    for utterance, text in zip(found.utterances, found.texts, strict=True):
        normalise = normalisers.of(utterance)
        alignment = align([normalise(utterance.text)], [normalise(text)])[0]
        edge = EDGE_LETTERS if normalise.by_letters else EDGE_WORDS
        wer = alignment.errors / max(1, len(alignment.reference))
        start, end = edge_errors(alignment, edge)
        result[int(utterance.id)] = Heard(text, wer, start, end)
    return result


def edge_errors(alignment: Alignment, words: int) -> tuple[float, float]:
    """Returns the CER of the first and of the last so many words of the text, with all that is
    heard before and after them."""
    pairs = [(said, heard) for _, said, heard in alignment.pairs()]
    return edge_error(pairs, words), edge_error(pairs[::-1], words, backwards=True)


def edge_error(
    pairs: Sequence[tuple[str | None, str | None]], words: int, backwards: bool = False
) -> float:
    said: list[str] = []
    heard: list[str] = []
    for word, other in pairs:
        if len(said) == words:
            break
        said += [word] if word is not None else []
        heard += [other] if other is not None else []
    if backwards:
        said, heard = said[::-1], heard[::-1]
    return character_errors([" ".join(said)], [" ".join(heard)]).rate


def trained_on(model: str, spec: str, rows: Sequence[Utterance]) -> str | None:
    """Returns the run that trained a model, or one before it, on this data set; None if that is
    not known. A run's folder says what it was trained on, by name and by content."""
    fingerprint = describe(rows)["fingerprint"]
    place = Path(model)
    runs = [place, *place.resolve().parents[:2]]  # of a checkpoint the run is above
    seen: set[Path] = set()
    while runs:
        run = runs.pop()
        if run.resolve() in seen or not (run / "config.yaml").exists():
            continue
        seen.add(run.resolve())
        with suppress(ConfigError, DataError):
            config = load_config(run / "config.yaml")
            named = [each.source for each in training_sources(config.data)]
            data = read_provenance(run).get("data", {}).get("training", {})
            known = {place for source in named for place in origins(source)}
            if known & origins(spec) or data.get("fingerprint") == fingerprint:
                return str(run)
            runs += [Path(config.init)] if config.init else []
    return None
