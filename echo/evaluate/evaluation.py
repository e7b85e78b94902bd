"""Evaluates one model on one set: transcripts, error rates and speed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from echo.checkpoints.load import to_device
from echo.config import DecodeSettings, OnError
from echo.data.loading import Limits
from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts, transcribe_set
from echo.evaluate.normaliser import Normaliser, normaliser
from echo.evaluate.wer import ErrorCounts, character_errors, word_errors
from echo.model.language import written_language
from echo.model.model import EchoForConditionalGeneration
from echo.support.files import replace_text, writing

GREEDY = DecodeSettings()


@dataclass(frozen=True)
class Evaluation:
    """Error counts of the texts as written, and after normalisation. In a language without spaces
    between words, all counts are of letters."""

    transcripts: Transcripts
    normaliser: str
    references: list[str]  # as written; if letters are counted, with spaces between them
    hypotheses: list[str]
    references_normalised: list[str]
    hypotheses_normalised: list[str]
    words: list[ErrorCounts]  # one per utterance
    words_normalised: list[ErrorCounts]
    wer: ErrorCounts
    cer: ErrorCounts
    wer_normalised: ErrorCounts
    cer_normalised: ErrorCounts

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary in a form that JSON can store."""
        return {
            "utterances": len(self.transcripts.utterances),
            "audio_seconds": sum(u.duration for u in self.transcripts.utterances),
            "rtfx": self.transcripts.rtfx,
            "normaliser": self.normaliser,
            "wer": self.wer.to_dict(),
            "cer": self.cer.to_dict(),
            "wer_normalised": self.wer_normalised.to_dict(),
            "cer_normalised": self.cer_normalised.to_dict(),
        }

    def write(self, folder: Path) -> None:
        """Writes `utterances.jsonl`, with one object per utterance, and then `evaluation.json`.

        Raises:
            EchoError: the folder cannot be written.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {
                "id": utterance.id,
                "duration": round(utterance.duration, 3),
                "speaker": utterance.speaker,
                "reference": utterance.text,
                "hypothesis": text,
                "wer": words.to_dict(),
                "wer_normalised": words_normalised.to_dict(),
            }
            for utterance, text, words, words_normalised in zip(
                self.transcripts.utterances,
                self.transcripts.texts,
                self.words,
                self.words_normalised,
                strict=True,
            )
        ]
        replace_text(
            folder / "utterances.jsonl",
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
        )
        replace_text(folder / "evaluation.json", json.dumps(self.to_dict(), indent=2) + "\n")


def evaluate_model(
    model: EchoForConditionalGeneration,
    tokenizer: Any,
    utterances: Sequence[Utterance],
    settings: DecodeSettings = GREEDY,
    on_error: OnError = "raise",
    progress: bool = False,
    pad_to_seconds: float | None = None,
    added_silence: float | None = None,
) -> Evaluation:
    """Transcribes a set of utterances, on a GPU if there is one, and counts errors.

    Args:
        on_error: what to do with an utterance that cannot be used: raise an error, or log it and
            leave it out.
        progress: whether to show a progress bar.
        pad_to_seconds: how long every utterance is at least, with silence after it, as in the
            model's config. None means the value that the model was trained with.
        added_silence: the least silence after every utterance, in seconds, by default likewise.

    Raises:
        DataError: an utterance cannot be used and `on_error` is "raise", or no utterance can.
    """
    to_device(model)
    limits = Limits.of(model.config)
    if pad_to_seconds is not None:
        limits = replace(limits, pad_to_seconds=pad_to_seconds)
    if added_silence is not None:
        limits = replace(limits, added_silence=added_silence)
    transcripts = transcribe_set(
        model, tokenizer, utterances, settings, on_error, progress, limits=limits
    )
    language, texts = written_language(model), (u.text for u in transcripts.utterances)
    return score(transcripts, normaliser(language, tokenizer, texts))


def score(transcripts: Transcripts, normalise: Normaliser) -> Evaluation:
    """Counts the errors in transcripts."""
    said, heard = [u.text for u in transcripts.utterances], transcripts.texts
    raw = [normalise.units(t) for t in said], [normalise.units(t) for t in heard]
    normalised = [normalise(t) for t in said], [normalise(t) for t in heard]
    characters = word_errors if normalise.by_letters else character_errors
    return Evaluation(
        transcripts,
        normalise.name,
        *raw,
        *normalised,
        words=[word_errors([r], [h]) for r, h in zip(*raw, strict=True)],
        words_normalised=[word_errors([r], [h]) for r, h in zip(*normalised, strict=True)],
        wer=word_errors(*raw),
        cer=characters(*raw),
        wer_normalised=word_errors(*normalised),
        cer_normalised=characters(*normalised),
    )
