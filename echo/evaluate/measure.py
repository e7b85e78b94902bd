"""Measures models on a data set that is read from its source, and records what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from echo.checkpoints.load import load_model
from echo.config import DecodeSettings
from echo.data.noise import AudioFolder
from echo.data.sources import Columns, ReadOptions, read_source
from echo.data.utterance import Utterance, describe
from echo.evaluate.compare import compare_models
from echo.evaluate.decodings import CTC
from echo.evaluate.evaluation import Evaluation, evaluate_model, padded_limits
from echo.evaluate.noise import NoiseCurve, measure_noise
from echo.model.language import Task
from echo.support.provenance import write_provenance


@dataclass(frozen=True)
class DataSet:
    """A source, and how it is read."""

    name: str
    options: ReadOptions

    def read(self) -> Sequence[Utterance]:
        return read_source(self.name, self.options)

    def described(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Returns what `provenance.json` says of it, from which `from_provenance` makes it."""
        return {
            "source": {
                "data": self.name,
                "columns": asdict(self.options.columns),
                "allow_outside": self.options.allow_outside,
            },
            "data": {"evaluation": describe(utterances)},
        }

    @classmethod
    def from_provenance(cls, source: Mapping[str, Any]) -> "DataSet":
        """Returns a data set without the rows that cannot be used."""
        columns = Columns(**source.get("columns", {}))
        options = ReadOptions(columns, "skip", source.get("allow_outside", False))
        return cls(source["data"], options)


@dataclass(frozen=True)
class Measured:
    """An evaluation of one model, in noise too where that was asked for."""

    evaluation: Evaluation
    by_ctc: Evaluation | None  # of the CTC head alone, where there is one
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
                *([(CTC.wer, self.by_ctc.wer)] if self.by_ctc else []),
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
    """Evaluates a model on a data set, as `load_model` and `evaluate_model` take them, and with a
    folder of recordings of noise, in these at each of `snrs`, in dB, too. Writes transcripts, error
    rates and `provenance.json` into `out`."""
    noises = AudioFolder.at(noise, "--noise") if noise else None
    utterances = data_set.read()
    loaded = load_model(source, which, language, task)
    how = settings, data_set.options.on_error, True
    padding = pad_to_seconds, added_silence
    evaluation = evaluate_model(loaded, utterances, *how, *padding)
    own = CTC.settings(settings, loaded.model.config)
    by_ctc = evaluate_model(loaded, utterances, own, *how[1:], *padding) if own else None
    in_noise = None
    if noises:
        heard, limits = evaluation.transcripts.utterances, padded_limits(loaded.model, *padding)
        in_noise = measure_noise(loaded, heard, noises, snrs, *how, limits)
    if out:
        if in_noise:
            in_noise.write(out)
        further = {"noise": in_noise.to_dict()} if in_noise else {}
        evaluation.write(out, {**further, **({"wer_ctc": by_ctc.wer.to_dict()} if by_ctc else {})})
        write_provenance(
            out,
            model=source,
            which=which,
            checkpoint=loaded.checkpoint,
            parameters=loaded.model.num_parameters(),
            config=loaded.model.config.to_diff_dict(),
            **data_set.described(utterances),
        )
    return Measured(evaluation, by_ctc, utterances, in_noise)


def compare_sources(
    sources: Sequence[str], data_set: DataSet, out: Path, which: str, **options: Any
) -> tuple[dict[str, Any], Sequence[Utterance]]:
    """Compares models on a data set, and writes what `compare_models` writes, whose further options
    it takes, and `provenance.json`. Returns the comparison, and the utterances of the data set."""
    utterances = data_set.read()
    options |= {"which": which, "on_error": data_set.options.on_error}
    comparison = compare_models(sources, data_set.name, utterances, out, **options)
    write_provenance(out, which=which, **data_set.described(utterances))
    return comparison, utterances
