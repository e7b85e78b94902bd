"""The pilot: several models trained on the same data with the same budget, side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo.config import RunConfig, build, load_run_config, merge, to_dict
from echo.data.corpora import build_corpus
from echo.errors import ConfigError
from echo.evaluate.load import load_model
from echo.evaluate.measure import evaluate_model
from echo.paths import is_file_name
from echo.report.curves import draw_curves
from echo.report.markdown import escape, percent, table
from echo.train.checkpoint import Progress
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run


@dataclass(frozen=True)
class Contender:
    """One model of the comparison."""

    name: str
    config: RunConfig


def read_pilot(content: dict[str, Any], source: str) -> list[Contender]:
    """Reads a pilot's settings: a run's, with a mapping `models` of what differs for each.

    Raises:
        ConfigError: naming the key at fault.
    """
    content = dict(content)
    models = content.pop("models", None)
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"{source}: 'models' must map each model's name to its own settings")
    contenders = []
    for name, changes in models.items():
        if not isinstance(changes, dict | None):
            raise ConfigError(f"{source}: models.{name} is {changes!r}, not a mapping")
        if not is_file_name(str(name)):
            raise ConfigError(f"{source}: models.{name!r} names a folder, and cannot be so called")
        config = build(RunConfig, merge(content, changes or {}), f"{source} (models.{name})")
        contenders.append(Contender(str(name), config))
    return contenders


def run_pilot(contenders: list[Contender], out: Path) -> list[dict[str, Any]]:
    """Trains and measures every contender, and writes `pilot.json`, `table.md` and the curves.

    A pilot that was stopped goes on where it stood when it is started again.

    Returns:
        The table's rows.

    Raises:
        ConfigError: the folder holds a pilot with other settings.
    """
    check_folder(contenders, out)
    rows = []
    for contender in contenders:
        run = out / contender.name
        config = contender.config
        corpus = build_corpus(config.data, config.seed)
        if (run / "config.yaml").exists():
            progress = resume_run(run, corpus)
        else:
            progress = start_run(config, run, corpus)
        # The last checkpoint, not the best: equal steps, and no choice made on the test set.
        loaded = load_model(str(run), "last")
        evaluation = evaluate_model(
            loaded.model,
            loaded.tokenizer,
            corpus.eval_utterances(),
            config.decode,
            config.data.on_error,
            progress=True,
        )
        evaluation.write(run / "evaluation")
        rows.append(row(contender.name, loaded.model.num_parameters(), progress, evaluation, run))
    write_outputs(contenders, rows, out)
    return rows


def check_folder(contenders: list[Contender], out: Path) -> None:
    """A run folder there must be of the same settings."""
    for contender in contenders:
        run = out / contender.name
        if (run / "config.yaml").exists() and load_run_config(run) != contender.config:
            raise ConfigError(f"{run}: holds a run with other settings; choose another folder")


def row(
    name: str, parameters: int, progress: Progress, evaluation: Any, run: Path
) -> dict[str, Any]:
    losses = [e["loss"] for e in read_metrics(run) if e["kind"] == "train"]
    return {
        "model": name,
        "parameters": parameters,
        "steps": progress.step,
        "train_seconds": progress.seconds,
        "utterances_per_second": progress.utterances / progress.seconds,
        "final_loss": losses[-1],
        "skipped": progress.skipped,
        **evaluation.to_dict(),
    }


def write_outputs(contenders: list[Contender], rows: list[dict[str, Any]], out: Path) -> None:
    result = {
        "models": rows,
        "configs": {contender.name: to_dict(contender.config) for contender in contenders},
    }
    (out / "pilot.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "table.md").write_text(format_table(rows), encoding="utf-8")
    draw_curves({c.name: read_metrics(out / c.name) for c in contenders}, out)


def format_table(rows: list[dict[str, Any]]) -> str:
    """The comparison as a Markdown table."""
    header = ["model", "parameters", "steps", "training s", "utt/s", "loss", "WER", "CER", "RTFx"]
    cells = [
        [
            escape(row["model"]),
            f"{row['parameters'] / 1e6:.2f} M",
            str(row["steps"]),
            f"{row['train_seconds']:.0f}",
            f"{row['utterances_per_second']:.1f}",
            f"{row['final_loss']:.3f}",
            percent(row["wer"]["rate"]),
            percent(row["cer"]["rate"]),
            f"{row['rtfx']:.0f}",
        ]
        for row in rows
    ]
    return table(header, cells) + "\n"
