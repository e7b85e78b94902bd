"""How a model copes with noise: WER by signal-to-noise ratio, and what it writes where nobody
speaks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from echo.checkpoints.load import LoadedModel, to_device
from echo.config import DecodeSettings, OnError
from echo.data.noise import AudioFolder, NoisyAudio
from echo.data.utterance import Utterance
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.evaluation import GREEDY, Evaluation, score
from echo.evaluate.normaliser import NormaliserName, row_normalisers
from echo.model.geometry import Limits

SEED = "noise"  # always the same, so that every model hears the same noise


@dataclass(frozen=True)
class NoiseCurve:
    """Evaluations by the SNR in dB, and of the same noise without speech."""

    curve: dict[float, Evaluation]
    alone: Evaluation
    unit: str  # what WER counts in the languages of the rows: words, letters, or both

    @property
    def minutes(self) -> float:
        """The minutes of noise without speech that were decoded."""
        return sum(u.duration for u in self.alone.transcripts.utterances) / 60

    @property
    def words_per_minute(self) -> float:
        """What was written in a minute of noise without speech, all of it invented."""
        return self.alone.wer.insertions / self.minutes

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures in a form that JSON can store."""
        return {
            "curve": [{"snr": snr, **evaluation.rates()} for snr, evaluation in self.curve.items()],
            "non_speech": {
                "minutes": self.minutes,
                "words": self.alone.wer.insertions,
                "words_per_minute": self.words_per_minute,
            },
        }

    def table(self, clean: Evaluation) -> str:
        """The curve as lines of text, from the evaluation without noise down."""
        lines = ["SNR           WER  WER, normalised"]
        rows = {"no noise": clean, **{f"{snr:g} dB": found for snr, found in self.curve.items()}}
        for name, evaluation in rows.items():
            wer, normalised = evaluation.wer.rate, evaluation.wer_normalised.rate
            lines.append(f"{name:8} {100 * wer:6.2f} %         {100 * normalised:6.2f} %")
        written = self.alone.wer.insertions
        lines.append(
            f"Without speech: {written} {self.unit} in {self.minutes:.1f} minutes of noise, "
            f"{self.words_per_minute:.2f} a minute"
        )
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Writes the transcripts at each SNR and of the noise alone, each into its own folder."""
        for snr, evaluation in self.curve.items():
            evaluation.write(folder / f"snr_{snr:g}")
        self.alone.write(folder / "non_speech")


def measure_noise(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    noises: AudioFolder,
    snrs: Sequence[float],
    settings: DecodeSettings = GREEDY,
    on_error: OnError = "raise",
    progress: bool = False,
    limits: Limits | None = None,
    normaliser: NormaliserName = "whisper",
) -> NoiseCurve:
    """Evaluates a model at each SNR in dB, with its own limits and padding or the given ones. An
    utterance has the same noise at every SNR, whatever the model: its draws depend on its id alone.
    """
    to_device(loaded.model)
    # By the rows as they are: those of noise alone have no text to tell a language by.
    normalise = row_normalisers(loaded, utterances, normaliser)

    def measured(noisy: list[Utterance]) -> Evaluation:
        transcripts = transcribe_set(loaded, noisy, settings, on_error, progress, limits=limits)
        return score(transcripts, normalise)

    curve = {snr: measured([noisy(u, noises, snr) for u in utterances]) for snr in snrs}
    alone = measured([noisy(u, noises, None) for u in utterances])
    by_letters = sorted({normalise.of(u).by_letters for u in utterances})
    return NoiseCurve(curve, alone, " and ".join(("words", "letters")[each] for each in by_letters))


def noisy(utterance: Utterance, noises: AudioFolder, snr: float | None) -> Utterance:
    """The utterance in noise at an SNR; at None the noise alone, in which nothing is said."""
    audio = NoisyAudio(utterance.audio, noises, snr, f"{SEED}-{utterance.id}")
    return replace(utterance, audio=audio, text="" if snr is None else utterance.text)
