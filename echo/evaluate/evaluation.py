"""Evaluates one model on one set: transcripts, error rates and speed."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from echo.checkpoints.load import LoadedModel, to_device
from echo.config import DecodeSettings, OnError
from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts, transcribe_set
from echo.evaluate.normaliser import (
    Normaliser,
    NormaliserName,
    RowNormalisers,
    row_normalisers,
    scored,
)
from echo.evaluate.statistics import members
from echo.evaluate.wer import ErrorCounts, character_errors, total, word_errors
from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.support.files import replace_text, writing
from echo.support.settings import Amount, check, convert

GREEDY = DecodeSettings()
RATES = ("wer", "cer", "wer_normalised", "cer_normalised")


@dataclass(frozen=True)
class Evaluation:
    """Error counts of the texts as written, and after normalisation. In a language without spaces
    between words, all counts are of letters."""

    transcripts: Transcripts
    normaliser: str
    by_letters: bool  # whether errors of all utterances are counted in letters
    references: list[str]  # as written; if letters are counted, with spaces between them
    hypotheses: list[str]
    references_normalised: list[str]
    hypotheses_normalised: list[str]
    words: list[ErrorCounts]  # one per utterance
    words_normalised: list[ErrorCounts]
    characters: list[ErrorCounts]
    characters_normalised: list[ErrorCounts]

    @property
    def wer(self) -> ErrorCounts:
        return total(self.words)

    @property
    def cer(self) -> ErrorCounts:
        return total(self.characters)

    @property
    def cer_normalised(self) -> ErrorCounts:
        return total(self.characters_normalised)

    @property
    def wer_normalised(self) -> ErrorCounts:
        return total(self.words_normalised)

    def only(self, indices: Sequence[int]) -> "Evaluation":
        """Returns the evaluation of some of the utterances."""
        names = ("references", "hypotheses", "words", "characters")
        lists: dict[str, Any] = {
            key: [getattr(self, key)[i] for i in indices]
            for name in names
            for key in (name, f"{name}_normalised")
        }
        utterances = [self.transcripts.utterances[i] for i in indices]
        texts = [self.transcripts.texts[i] for i in indices]
        return replace(
            self,
            transcripts=replace(self.transcripts, utterances=utterances, texts=texts),
            **lists,
        )

    def sets(self) -> dict[str, "Evaluation"]:
        """Returns the evaluation of each data set by name; a single one has the name ""."""
        labels = [utterance.set for utterance in self.transcripts.utterances]
        return {name: self.only(indices) for name, indices in members(labels).items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary in a form that JSON can store: of all utterances, and of several
        data sets that of each and the mean of their rates."""
        sets = self.sets()
        several = {
            "sets": {name: {**each.size(), **each.rates()} for name, each in sets.items()},
            "macro_average": macro_average(sets.values()),
        }
        return {
            **self.size(),
            "rtfx": self.transcripts.rtfx,
            "normaliser": self.normaliser,
            "by_letters": self.by_letters,
            **self.rates(),
            **(several if len(sets) > 1 else {}),
        }

    def size(self) -> dict[str, Any]:
        utterances = self.transcripts.utterances
        return {"utterances": len(utterances), "audio_seconds": sum(u.duration for u in utterances)}

    def rates(self) -> dict[str, Any]:
        """Returns the error rates with their counts, in a form that JSON can store."""
        return {name: getattr(self, name).to_dict() for name in RATES}

    def write(self, folder: Path, further: Mapping[str, Any] | None = None) -> None:
        """Writes `utterances.jsonl`, with one object per utterance, and then `evaluation.json`,
        with `further` entries."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        times = self.transcripts.times
        columns = zip(
            self.transcripts.utterances,
            self.transcripts.texts,
            self.references_normalised,
            self.hypotheses_normalised,
            self.words,
            self.words_normalised,
            strict=True,
        )
        lines = [
            {
                "id": utterance.id,
                "duration": round(utterance.duration, 3),
                "speaker": utterance.speaker,
                "reference": utterance.text,
                "hypothesis": text,
                "reference_normalised": reference,
                "hypothesis_normalised": hypothesis,
                "wer": words.to_dict(),
                "wer_normalised": words_normalised.to_dict(),
                **({"times": times[utterance.id]} if utterance.id in times else {}),
                **({"set": utterance.set} if utterance.set else {}),
            }
            for utterance, text, reference, hypothesis, words, words_normalised in columns
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        replace_text(folder / "utterances.jsonl", text)
        summary = {**self.to_dict(), **(further or {})}
        replace_text(folder / "evaluation.json", json.dumps(summary, indent=2) + "\n")


def macro_average(sets: Iterable[Evaluation]) -> dict[str, Any]:
    """Returns the mean of the sets' rates: each set counts as much as any other."""
    found = [each.rates() for each in sets]
    return {name: {"rate": fmean(rates[name]["rate"] for rates in found)} for name in RATES}


def evaluate_model(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    settings: DecodeSettings = GREEDY,
    on_error: OnError = "raise",
    progress: bool = False,
    pad_to_seconds: float | None = None,
    added_silence: float | None = None,
    normaliser: NormaliserName = "whisper",
) -> Evaluation:
    """Transcribes a set of utterances, on a GPU if there is one, and counts errors.

    Args:
        on_error: what to do with an utterance that cannot be used: raise an error, or log it and
            leave it out.
        progress: whether to show a progress bar.
        pad_to_seconds: how long every utterance is at least, with silence after it, as in the
            model's config. None means the value that the model was trained with.
        added_silence: the least silence after every utterance, in seconds, by default likewise.
        normaliser: "whisper", by the language of the model or row, or "leaderboard", of the Open
            ASR Leaderboard, which leaves out utterances in which it finds no word.

    Raises:
        ConfigError: an argument is not allowed.
        DataError: an utterance cannot be used and `on_error` is "raise", or no utterance can.
    """
    check(settings, "settings")
    convert(OnError, on_error, "evaluate_model", "on_error")
    to_device(loaded.model)
    limits = padded_limits(loaded.model, pad_to_seconds, added_silence)
    heard = scored(utterances, normaliser)
    transcripts = transcribe_set(loaded, heard, settings, on_error, progress, limits=limits)
    return score(transcripts, row_normalisers(loaded, transcripts.utterances, normaliser))


def padded_limits(
    model: EchoForConditionalGeneration,
    pad_to_seconds: float | None,
    added_silence: float | None,
) -> Limits:
    """The model's limits, with another silence after every utterance where one is given.
    ConfigError for silence that padding to the model's longest input leaves no room for."""
    told: dict[str, Any] = {"pad_to_seconds": pad_to_seconds, "added_silence": added_silence}
    given = {
        key: convert(Amount, value, "silence", key)
        for key, value in told.items()
        if value is not None
    }
    limits = replace(Limits.of(model.config), **given)
    longest = limits.max_frames / FRAMES_PER_SECOND
    if added_silence and limits.pad_to_seconds >= longest:
        raise ConfigError(
            "added silence has no effect, because utterances are padded to the model's longest "
            f"input, {longest:g} s: pad to less too, such as 0"
        )
    return limits


def score(transcripts: Transcripts, normalise: Normaliser | RowNormalisers) -> Evaluation:
    """Counts the errors in transcripts."""
    said, heard = [u.text for u in transcripts.utterances], transcripts.texts
    own = [normalise.of(u) for u in transcripts.utterances]

    def each(change: Callable[[Normaliser, str], str], texts: Sequence[str]) -> list[str]:
        return [change(n, t) for n, t in zip(own, texts, strict=True)]

    raw = each(Normaliser.units, said), each(Normaliser.units, heard)
    normalised = each(Normaliser.__call__, said), each(Normaliser.__call__, heard)

    def words(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCounts]:
        return [word_errors([r], [h]) for r, h in zip(references, hypotheses, strict=True)]

    def characters(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCounts]:
        """By letters, a word is a letter."""
        texts = zip(own, references, hypotheses, strict=True)
        return [
            (word_errors if each.by_letters else character_errors)([r], [h]) for each, r, h in texts
        ]

    return Evaluation(
        transcripts,
        normalise.name,
        all(each.by_letters for each in own),
        *raw,
        *normalised,
        words=words(*raw),
        words_normalised=words(*normalised),
        characters=characters(*raw),
        characters_normalised=characters(*normalised),
    )
