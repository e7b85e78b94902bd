"""One model on one set: transcripts, error rates and speed."""

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
from echo.evaluate.wer import ErrorCounts, Normaliser, character_errors, normaliser, word_errors
from echo.model.language import written_language
from echo.model.model import EchoForConditionalGeneration
from echo.support.files import replace_text, writing

GREEDY = DecodeSettings()


@dataclass(frozen=True)
class Evaluation:
    """Error counts as the texts are, and after a normaliser of Whisper's."""

    transcripts: Transcripts
    normaliser: str
    references: list[str]  # normalised
    hypotheses: list[str]  # normalised
    words: list[ErrorCounts]  # of each utterance
    words_normalised: list[ErrorCounts]
    wer: ErrorCounts
    cer: ErrorCounts
    wer_normalised: ErrorCounts
    cer_normalised: ErrorCounts

    def to_dict(self) -> dict[str, Any]:
        """The summary, as JSON has it."""
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
        """Writes `utterances.jsonl`, an object per utterance, and then `evaluation.json`.

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
    """Transcribes a set of utterances, on a GPU where there is one, and counts errors.

    Args:
        on_error: whether an utterance that cannot be used is an error, or logged and left out.
        progress: whether to show a bar.
        pad_to_seconds, added_silence: the silence after every utterance, as in the model's config;
            None is what it was trained with.

    Raises:
        DataError: an utterance cannot be used and `on_error` is "raise", or none can.
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
    return score(transcripts, normaliser(written_language(model), tokenizer))


def score(transcripts: Transcripts, normalise: Normaliser) -> Evaluation:
    """Counts the errors of transcripts."""
    raw = [u.text for u in transcripts.utterances]
    references = [normalise(text) for text in raw]
    hypotheses = [normalise(text) for text in transcripts.texts]
    return Evaluation(
        transcripts,
        normalise.name,
        references,
        hypotheses,
        words=[word_errors([r], [h]) for r, h in zip(raw, transcripts.texts, strict=True)],
        words_normalised=[
            word_errors([r], [h]) for r, h in zip(references, hypotheses, strict=True)
        ],
        wer=word_errors(raw, transcripts.texts),
        cer=character_errors(raw, transcripts.texts),
        wer_normalised=word_errors(references, hypotheses),
        cer_normalised=character_errors(references, hypotheses),
    )
