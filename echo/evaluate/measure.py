"""Measures models on a data set that is read from its source, and records what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from echo.checkpoints.load import load_model
from echo.config import DecodeSettings
from echo.data.fingerprint import describe
from echo.data.noise import AudioFolder
from echo.data.sources import Columns, ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.evaluate.compare import compare_models
from echo.evaluate.decodings import CTC
from echo.evaluate.evaluation import Evaluation, evaluate_model, macro_average, padded_limits
from echo.evaluate.noise import NoiseCurve, measure_noise
from echo.evaluate.normaliser import NormaliserName
from echo.model.language import Task
from echo.support.errors import ConfigError
from echo.support.provenance import write_provenance
from echo.support.text import percent, table


@dataclass(frozen=True)
class DataSet:
    """A source, or several by name, and how they are read."""

    data: str | Mapping[str, str]
    options: ReadOptions

    @property
    def name(self) -> str:
        return self.data if isinstance(self.data, str) else ", ".join(self.data)

    def read(self) -> Sequence[Utterance]:
        """Reads the utterances. Those of several sources have their set's name before their id."""
        if isinstance(self.data, str):
            return read_source(self.data, self.options)
        return [
            replace(utterance, id=f"{name}/{utterance.id}", set=name)
            for name, source in self.data.items()
            for utterance in read_source(source, self.options)
        ]

    def described(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Returns what `provenance.json` says of it, from which `from_provenance` makes it."""
        return {
            "source": {
                "data": self.data if isinstance(self.data, str) else dict(self.data),
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
        sets = found.sets()
        if len(sets) > 1:
            lines = [self.set_table(sets), ""]
        else:
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

    def set_table(self, sets: Mapping[str, Evaluation]) -> str:
        """A row for each data set, and the average, in which each counts as much as any other."""
        titles = ["WER", "CER", "WER, normalised", "CER, normalised"]
        average = macro_average(sets.values())
        rows = [[n, str(len(e.words)), *shares(e.rates().values())] for n, e in sets.items()]
        rows.append(["average", "", *shares(average.values())])
        if self.by_ctc:
            alone = self.by_ctc.sets()
            titles.append(CTC.wer)
            own = [*(e.rates() for e in alone.values()), macro_average(alone.values())]
            rows = [[*row, *shares([e["wer"]])] for row, e in zip(rows, own, strict=True)]
        return table(["data set", "utterances", *titles], rows)


def shares(rates: Iterable[Mapping[str, Any]]) -> list[str]:
    return [percent(rate["rate"]) for rate in rates]


def with_ctc(evaluation: Evaluation, by_ctc: Evaluation) -> dict[str, Any]:
    """Returns the entries of `evaluation.json` that also tell the WER of the CTC head alone."""
    own, ctc = evaluation.to_dict(), by_ctc.to_dict()
    found: dict[str, Any] = {"wer_ctc": ctc["wer"]}
    if "sets" in own:
        sets = {
            name: {**one, "wer_ctc": ctc["sets"][name]["wer"]} for name, one in own["sets"].items()
        }
        average = {**own["macro_average"], "wer_ctc": ctc["macro_average"]["wer"]}
        found |= {"sets": sets, "macro_average": average}
    return found


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
    normaliser: NormaliserName = "whisper",
) -> Measured:
    """Evaluates a model on a data set, as `load_model` and `evaluate_model` take them, and with a
    folder of recordings of noise, in these at each of `snrs`, in dB, too. Writes transcripts, error
    rates and `provenance.json` into `out`."""
    noises = AudioFolder.at(noise, "--noise") if noise else None
    utterances = data_set.read()
    loaded = load_model(source, which, language, task)
    if settings.ctc_weight and not loaded.model.config.ctc:
        raise ConfigError(f"--ctc-weight has no effect: {source} has no CTC head")
    how = settings, data_set.options.on_error, True
    padding = pad_to_seconds, added_silence
    evaluation = evaluate_model(loaded, utterances, *how, *padding, normaliser)
    own = CTC.settings(settings, loaded.model.config)
    by_ctc = (
        evaluate_model(loaded, utterances, own, *how[1:], *padding, normaliser) if own else None
    )
    in_noise = None
    if noises:
        heard, limits = evaluation.transcripts.utterances, padded_limits(loaded.model, *padding)
        in_noise = measure_noise(loaded, heard, noises, snrs, *how, limits, normaliser)
    if out:
        if in_noise:
            in_noise.write(out)
        further = {"noise": in_noise.to_dict()} if in_noise else {}
        evaluation.write(out, {**further, **(with_ctc(evaluation, by_ctc) if by_ctc else {})})
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
