"""The model card of a checkpoint: a README.md as the Hugging Face Hub shows it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.named import evaluation_sources, training_sources
from echo.data.utterance import FixedCorpus
from echo.support.settings import to_dict
from echo.support.text import escape_markdown, one_line, percent, table

CARD_FILE = "README.md"
TASK = "automatic-speech-recognition"
# org/name, and of a data set its config and split.
HUB_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(:[\w.-]+)?(@[\w.-]+)?")

USE = f"""\
## Use

```python
import echo  # pip install echo-asr
from transformers import pipeline

transcribe = pipeline("{TASK}", model=".")  # this folder, or its id on the hub
transcribe("recording.wav")
```
"""


def model_card(
    config: RunConfig,
    name: str,
    language: str | None = None,
    corpus: AnyCorpus | None = None,
    evaluations: Sequence[tuple[int, Mapping[str, float]]] = (),
    step: int | None = None,
    note: str = "",
) -> str:
    """The card's Markdown, with front matter; of a path it holds the last part alone.

    Args:
        name: the model's.
        language: the code of what it writes, where that is known.
        corpus: what it was trained on, to be counted.
        evaluations: step and WERs (1 is 100 %) by their sets' names, of all that were made so far.
        step: the checkpoint's; it answers for the WER of its own step alone.
        note: a paragraph of Markdown to begin with.
    """
    wers = dict(evaluations)
    parts = [
        f"# {escape_markdown(name)}",
        note,
        "A speech recogniser with focused attention, trained with Echo.",
    ]
    if wers:
        names = [*next(iter(wers.values()))]
        sets = evaluated_on(config, names)
        rows = [[str(at), *(percent(found[name]) for name in names)] for at, found in wers.items()]
        parts += [
            "## Word error rate",
            f"On at most {config.train.eval_utterances} utterances of "
            + ", ".join(escape_markdown(sets[name]) for name in names)
            + (f", after step {step}" if step in wers else "")
            + ":",
            table(["step", *(f"WER of {name}" if name else "WER" for name in names)], rows, 0),
        ]
    parts += ["## Training", training_data(config, corpus), config_block(config), USE]
    return (
        f"---\n{front_matter(config, name, language, wers.get(step or 0, {}))}\n---\n\n"
        + "\n\n".join(filter(None, parts))
    )


def merged_card(
    name: str, sources: Sequence[str], shares: Sequence[float], language: str | None, note: str
) -> str:
    """The card of a weighted mean of models' weights.

    Args:
        note: Markdown on what was measured of it.
    """
    used = [(source, share) for source, share in zip(sources, shares, strict=True) if share > 0]
    rows = [[escape_markdown(without_folders(source)), f"{share:g}"] for source, share in used]
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["echo", "merge"],
        language=language,
        base_model=[found for source, _ in used if (found := hub_id(source))] or None,
    ).to_yaml()
    parts = [
        f"# {escape_markdown(name)}",
        "A speech recogniser: the weighted mean of the weights of these models.",
        table(["model", "weight"], rows),
        note,
        USE,
    ]
    return f"---\n{front}\n---\n\n" + "\n\n".join(filter(None, parts))


def front_matter(
    config: RunConfig, name: str, language: str | None, wers: Mapping[str, float]
) -> str:
    """What the hub reads of a card, as YAML."""
    sets = evaluated_on(config, [*wers])
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=one_line(sets[key]),
            dataset_name=one_line(sets[key]),
            metric_type="wer",
            metric_name="WER (%)",
            metric_value=round(100 * wer, 2),
        )
        for key, wer in wers.items()
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["echo"],
        language=language,
        base_model=hub_id(config.init),
        datasets=[found for name in trained_on(config) if (found := hub_id(name))] or None,
        metrics=["wer"] if wers else None,
        model_name=one_line(name) if wers else None,
        eval_results=results or None,
    ).to_yaml()


def evaluated_on(config: RunConfig, names: Sequence[str]) -> dict[str, str]:
    """What its WERs were measured on, by the names of the sets."""
    sources = evaluation_sources(config.data)
    return {
        name: without_folders(sources.get(name, name)) or "its evaluation data" for name in names
    }


def training_data(config: RunConfig, corpus: AnyCorpus | None) -> str:
    """What the model began with, and what it was trained on."""
    trained = ", ".join(escape_markdown(without_folders(name)) for name in trained_on(config))
    begun = (
        f"from {escape_markdown(without_folders(config.init))} " if config.init else "from scratch "
    )
    text = f"Trained {begun}on {trained}"
    if isinstance(corpus, FixedCorpus):  # others make their utterances anew for every epoch
        hours = sum(utterance.duration for utterance in corpus.train) / 3600
        text += f": {len(corpus.train)} utterances, {hours:.2f} hours"
    return f"{text}."


def trained_on(config: RunConfig) -> list[str]:
    sources = [source.source for source in training_sources(config.data)]
    return sources or [config.data.corpus or "data of its own"]


def config_block(config: RunConfig) -> str:
    """How to train it again."""
    # Each value in a line of its own, so that none can end the block.
    content = yaml.safe_dump(
        reduced(to_dict(config)), sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return (
        "Train it again with this as `config.yaml`, in which files and folders are to be given "
        f"anew:\n\n```sh\necho-asr train config.yaml\n```\n\n```yaml\n{content}```"
    )


def reduced(value: Any) -> Any:
    """A config's values, without the folders in which files lie."""
    if isinstance(value, dict):
        return {key: reduced(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [reduced(entry) for entry in value]
    return one_line(without_folders(value)) if isinstance(value, str) else value


def without_folders(source: str) -> str:
    """A hub id as it is, and of a path the last part, which says nothing of whose it is."""
    if hub_id(source):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]


def hub_id(source: str | None) -> str | None:
    """The id of a model or data set of the hub; None for what lies here."""
    found = HUB_ID.fullmatch(source or "")
    return found[1] if found and not Path(found[1]).exists() else None
