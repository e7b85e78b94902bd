"""How much a fine-tuned Whisper learns and forgets: normalised WER on its own kind of speech and on
another, of the start, the fine-tuned model, means of both, and other ways to fine-tune.

Each model is measured without Whisper's padding (with a second of silence) and padded to 30 s. What
is trained or measured already is kept in OUT, so a run that was stopped goes on. Steps and seconds
of training are those of `configs/finetune.yaml` with the overrides given.

    python scripts/measure/forgetting.py --model ../shared/models/whisper-tiny.en \
        --train ../shared/data/speechocean762/train.jsonl \
        --own ../shared/data/speechocean762/dev.jsonl \
        --replay ../shared/data/librispeech/train.jsonl \
        --general ../shared/data/librispeech/dev.jsonl \
        --out results/forgetting train.max_steps=400 train.precision=bf16
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from echo.checkpoints.load import load_model
from echo.checkpoints.merge import read_parents, write_mean
from echo.config import load_config
from echo.data.loading import sample
from echo.data.sources import ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.support.text import percent, table
from echo.train.run import resume_run, start_run

SHARES = (0.25, 0.5, 0.75)  # of the fine-tuned model in its means with the start
PADDINGS = {"natural": (0.0, 1.0), "30 s": (30.0, 0.0)}  # pad_to_seconds, added_silence
FINETUNE = Path(__file__).parents[2] / "configs" / "finetune.yaml"
# By the row's name: what the run changes, and whether its means with the start are measured too.
RUNS: dict[str, tuple[list[str], bool]] = {
    "fine-tuned": ([], True),
    "replay": (["data.train=[{{source: {train}}}, {{source: {replay}, weight: 0.5}}]"], True),
    "anchor_kl 0.5": (["loss.anchor_kl=0.5"], True),
    "LoRA": (["lora.rank=16", "train.learning_rate=1e-3"], False),
}


def train(run: Path, settings: list[str], arguments: argparse.Namespace) -> None:
    """Trains, or goes on with a run that was stopped."""
    if (run / "config.yaml").exists():
        resume_run(run)
        return
    known = [
        f"init={arguments.model}",
        f"data.train={arguments.train}",
        f"data.eval={{own: {arguments.own}, general: {arguments.general}}}",
        "data.allow_outside=true",
        *arguments.overrides,
    ]
    start_run(load_config(FINETUNE, known + settings), run)


def models(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Name, folder and checkpoint of each row's model, each made when it is asked for."""
    yield "start", arguments.model, "best"
    for name in arguments.rows:
        settings, averaged = RUNS[name]
        names = {"train": arguments.train, "replay": arguments.replay}
        run = arguments.out / name.replace(" ", "-")
        train(run, [setting.format(**names) for setting in settings], arguments)
        yield name, str(run), "last"
        if not averaged:
            continue
        for share in SHARES:
            mean = arguments.out / f"{run.name}-{share:g}"
            if not mean.exists():
                write_mean(
                    read_parents([arguments.model, str(run)], "last"), (1 - share, share), mean
                )
            yield f"{name}, weight {share:g}", str(mean), "best"


def measure(
    folder: str, which: str, sets: dict[str, Sequence[Utterance]], known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The normalised WERs of a model by set and padding, with each that is new."""
    loaded = None
    for padding, (pad_to, silence) in PADDINGS.items():
        for name, utterances in sets.items():
            if f"{name}, {padding}" in known:
                continue
            loaded = loaded or load_model(folder, which)
            found = evaluate_model(loaded, utterances, pad_to_seconds=pad_to, added_silence=silence)
            known = {**known, f"{name}, {padding}": found.wer_normalised.rate}
            yield known


def render(results: dict[str, dict[str, float]]) -> str:
    columns = [f"{name}, {padding}" for padding in PADDINGS for name in ("own", "general")]
    rows = [
        [row, *(percent(found[c]) if c in found else "" for c in columns)]
        for row, found in results.items()
    ]
    return table(["model", *columns], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="settings of all runs, KEY=VALUE")
    for name in ("--model", "--train", "--own", "--replay", "--general"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=300, help="of each set")
    parser.add_argument("--rows", nargs="+", default=[*RUNS], choices=[*RUNS])
    arguments = parser.parse_intermixed_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets: dict[str, Sequence[Utterance]] = {}
    for name in ("own", "general"):
        found = read_source(getattr(arguments, name), ReadOptions(allow_outside=True))
        sets[name] = sample(found, arguments.utterances)
    path = arguments.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for row, folder, which in models(arguments):
        for found in measure(folder, which, sets, results.get(row, {})):
            results[row] = found
            path.write_text(json.dumps(results, indent=1))
            (arguments.out / "results.md").write_text(render(results) + "\n")
    print(render(results))


if __name__ == "__main__":
    main()
