"""Measures models on a data set that is read from its source, and records what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo.checkpoints.load import load_model
from echo.config import DecodeSettings
from echo.data.noise import AudioFolder
from echo.data.utterance import Utterance
from echo.evaluate.compare import compare_models
from echo.evaluate.evaluation import Evaluation, evaluate_model, padded_limits
from echo.evaluate.noise import NoiseCurve, measure_noise
from echo.evaluate.source import DataSet
from echo.model.language import Task
from echo.support.provenance import write_provenance


@dataclass(frozen=True)
class Measured:
    """An evaluation of one model, in noise too where that was asked for."""

    evaluation: Evaluation
    utterances: Sequence[Utterance]  # of the whole set
    in_noise: NoiseCurve | None

    def to_text(self) -> str:
        """Returns the error rates, the speed and the noise, in lines."""
        found = self.evaluation
        lines = [
            f"{name:16} {100 * counts.rate:6.2f} %  of {counts.reference}: "
            f"{counts.insertions} ins, {counts.deletions} del, {counts.substitutions} sub"
            for name, counts in (
                ("WER", found.wer),
                ("CER", found.cer),
                ("WER, normalised", found.wer_normalised),
                ("CER, normalised", found.cer_normalised),
            )
        ]
        transcripts = found.transcripts
        done = f"{len(transcripts.utterances)} of {len(self.utterances)} utterances"
        lines += [f"Normalised by {found.normaliser}", f"RTFx {transcripts.rtfx:.1f}; {done}"]
        if self.in_noise:
            lines += ["", self.in_noise.table(found)]
        return "\n".join(lines)


def measure_model(
    source: str,
    data_set: DataSet,
    which: str,
    settings: DecodeSettings,
    language: str | None = None,
    task: Task | None = None,
    pad_to_seconds: float | None = None,
    added_silence: float | None = None,
    noise: Path | None = None,
    snrs: Sequence[float] = (),
    out: Path | None = None,
) -> Measured:
    """Evaluates a model on a data set.

    Args:
        source, which, language, task: as for `load_model`.
        pad_to_seconds, added_silence: as for `evaluate_model`.
        noise: a folder of recordings of noise, to measure in as well at each of `snrs`, in dB.
        out: a folder to write to: transcripts, error rates and `provenance.json`.

    Raises:
        EchoError: the data or the model cannot be used, or the folder cannot be written.
    """
    noises = AudioFolder.at(noise, "--noise") if noise else None
    utterances = data_set.read()
    loaded = load_model(source, which, language, task)
    evaluation = evaluate_model(
        loaded,
        utterances,
        settings,
        data_set.options.on_error,
        progress=True,
        pad_to_seconds=pad_to_seconds,
        added_silence=added_silence,
    )
    in_noise = None
    if noises:
        in_noise = measure_noise(
            loaded,
            evaluation.transcripts.utterances,
            noises,
            snrs,
            settings,
            data_set.options.on_error,
            progress=True,
            limits=padded_limits(loaded.model, pad_to_seconds, added_silence),
        )
    if out:
        if in_noise:
            in_noise.write(out)
        evaluation.write(out, {"noise": in_noise.to_dict()} if in_noise else {})
        write_provenance(
            out,
            model=source,
            which=which,
            checkpoint=loaded.checkpoint,
            parameters=loaded.model.num_parameters(),
            config=loaded.model.config.to_diff_dict(),
            **data_set.described(utterances),
        )
    return Measured(evaluation, utterances, in_noise)


def compare_sources(
    sources: Sequence[str], data_set: DataSet, out: Path, which: str, **options: Any
) -> tuple[dict[str, Any], Sequence[Utterance]]:
    """Compares models on a data set, and writes what `compare_models` writes and
    `provenance.json`.

    Args:
        options: further arguments of `compare_models`.

    Returns:
        The content of `comparison.json`, and the utterances of the data set.
    """
    utterances = data_set.read()
    comparison = compare_models(
        sources,
        data_set.name,
        utterances,
        out,
        which=which,
        on_error=data_set.options.on_error,
        **options,
    )
    write_provenance(out, which=which, **data_set.described(utterances))
    return comparison, utterances
