"""Model cards: a README.md as the Hugging Face Hub shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.named import evaluation_sources, training_sources
from echo.data.utterance import FixedCorpus
from echo.support.hub import hub_name
from echo.support.settings import to_dict
from echo.support.text import escape_markdown, one_line, percent, table

CARD_FILE = "README.md"
TASK = "automatic-speech-recognition"

USE = f"""\
## Use

```python
import echo  # pip install echo-asr
from transformers import pipeline

transcribe = pipeline("{TASK}", model=".")  # this folder, or its id on the hub
transcribe("recording.wav")
```
"""
AGAIN = """\
Train it again with this as `config.yaml`, in which files and folders are to be given anew:

```sh
echo-asr train config.yaml
```

```yaml
{config}```"""


def render(
    name: str,
    parts: Sequence[str],
    wers: Sequence[tuple[str, str, float]] = (),
    tags: Sequence[str] = (),
    library: str | None = "transformers",
    **front: Any,
) -> str:
    """Returns a card's Markdown with the front matter that the hub reads. Empty parts are left out.

    Args:
        wers: what was measured on, what it is called, and the error rate (1 is 100 %).
        front: more of `ModelCardData`.
    """
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=one_line(measured_on),
            dataset_name=one_line(measured_on),
            metric_type="wer",
            metric_name=f"{title} (%)",
            metric_value=round(100 * rate, 2),
        )
        for measured_on, title, rate in wers
    ]
    data = ModelCardData(
        library_name=library,
        pipeline_tag=TASK,
        tags=["echo", *tags],
        metrics=["wer"] if results else None,
        model_name=one_line(name) if results else None,
        eval_results=results or None,
        **front,
    )
    body = "\n\n".join(filter(None, [f"# {escape_markdown(name)}", *parts]))
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def model_card(
    config: RunConfig,
    name: str,
    language: str | None = None,
    corpus: AnyCorpus | None = None,
    evaluations: Sequence[tuple[int, Mapping[str, float]]] = (),
    step: int | None = None,
    note: str = "",
) -> str:
    """Returns the card of a run's model; of a path it holds the last part alone.

    Args:
        language: the code of what it writes, where that is known.
        corpus: what it was trained on, to be counted.
        evaluations: step and WERs (1 is 100 %) by their sets' names, of all that were made so far.
        step: the checkpoint's; it answers for the WER of its own step alone.
        note: a paragraph of Markdown to begin with.
    """
    wers = dict(evaluations)
    sources = evaluation_sources(config.data)
    sets = {
        key: ", ".join(map(without_folders, sources.get(key, [key]))) or "its evaluation data"
        for key in next(iter(wers.values()), {})
    }
    parts = [note, "A speech recogniser with focused attention, trained with Echo."]
    if wers:
        names = ", ".join(map(escape_markdown, sets.values()))
        after = f", after step {step}" if step in wers else ""
        rows = [[str(at), *(percent(found[key]) for key in sets)] for at, found in wers.items()]
        parts += [
            "## Word error rate",
            f"On at most {config.train.eval_utterances} utterances of {names}{after}:",
            table(["step", *(f"WER of {key}" if key else "WER" for key in sets)], rows, 0),
        ]
    trained = [source.source for source in training_sources(config.data)]
    trained = trained or [config.data.corpus or "data of its own"]
    # Each value in a line of its own, so that none can end the block.
    settings = yaml.safe_dump(
        reduced(to_dict(config)), sort_keys=False, allow_unicode=True, width=float("inf")
    )
    parts += ["## Training", history(config.init, trained, corpus), AGAIN.format(config=settings)]
    return render(
        name,
        [*parts, USE],
        [(sets[key], "WER", wer) for key, wer in wers.get(step or 0, {}).items()],
        language=language,
        base_model=hub_name(config.init),
        datasets=[found for source in trained if (found := hub_name(source))] or None,
    )


def merged_card(
    name: str, sources: Sequence[str], shares: Sequence[float], language: str | None, note: str
) -> str:
    """Returns the card of a weighted mean of models' weights; `note` is Markdown on what was
    measured of it."""
    used = zip(sources, shares, strict=True)
    rows = [[escape_markdown(without_folders(source)), f"{share:g}"] for source, share in used]
    about = "A speech recogniser: the weighted mean of the weights of these models."
    return render(
        name,
        [about, table(["model", "weight"], rows), note, USE],
        tags=["merge"],
        language=language,
        base_model=[found for source in sources if (found := hub_name(source))] or None,
    )


def history(init: str | None, sources: Sequence[str], corpus: AnyCorpus | None) -> str:
    """Returns what a model began with, and what it was trained on."""
    begun, *trained = (
        escape_markdown(without_folders(name)) for name in (init or "scratch", *sources)
    )
    text = f"Trained from {begun} on {', '.join(trained)}"
    if isinstance(corpus, FixedCorpus):  # others make their utterances anew for every epoch
        hours = sum(utterance.duration for utterance in corpus.train) / 3600
        text += f": {len(corpus.train)} utterances, {hours:.2f} hours"
    return f"{text}."


def reduced(value: Any) -> Any:
    """Returns a config's values, without the folders in which files lie."""
    if isinstance(value, dict):
        return {key: reduced(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [reduced(entry) for entry in value]
    return one_line(without_folders(value)) if isinstance(value, str) else value


def without_folders(source: str) -> str:
    """Returns a hub id as it is, and of a path the last part, which says nothing of whose it is."""
    if hub_name(source):
        return source
    return source.replace("\\", "/").rstrip("/").rpartition("/")[2]
