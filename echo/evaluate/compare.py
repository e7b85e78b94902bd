"""Measures several models on the same utterances and compares them."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echo.checkpoints.load import LoadedModel, load_model, to_device
from echo.config import DecodeSettings, OnError
from echo.data.audio import AudioArray
from echo.data.examples import ExampleReader, check_utterances
from echo.data.utterance import Utterance
from echo.evaluate.comparison import render_comparison
from echo.evaluate.decoding import Transcripts, transcribe_set
from echo.evaluate.decodings import CTC
from echo.evaluate.differences import error_rates_by_set, grouped_errors, most_changed
from echo.evaluate.evaluation import GREEDY, Evaluation, score
from echo.evaluate.groups import check_column
from echo.evaluate.normaliser import (
    Normaliser,
    NormaliserName,
    RowNormalisers,
    scored,
    shared_normalisers,
)
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE, Limits
from echo.model.language import Task, written_language
from echo.support.errors import DataError, EchoError
from echo.support.files import is_reserved, replace_text, result_folder
from echo.support.memory import PeakMemory
from echo.support.settings import check, convert
from echo.support.text import distinct

logger = logging.getLogger(__name__)


def compare_models(
    sources: Sequence[str],
    data: str,
    utterances: Sequence[Utterance],
    out: str | Path,
    settings: DecodeSettings = GREEDY,
    by: Sequence[str] = (),
    which: str = "best",
    on_error: OnError = "raise",
    language: str | None = None,
    task: Task | None = None,
    normaliser: NormaliserName = "whisper",
) -> dict[str, Any]:
    """Measures all models, on a GPU if there is one, and compares each with the first.

    Writes `comparison.json` and `comparison.md`. Each model also gets a folder with
    `evaluation.json` and `utterances.jsonl`, written as soon as that model is measured.

    Args:
        sources: two or more models, in any form that `load_model` takes. Duplicates are allowed.
        data: the name of the set in the report.
        by: columns to group the utterances by; see `echo.evaluate.groups`.
        which: which checkpoint of a run to use, "best" or "last".
        on_error: what to do with an utterance that some model cannot use: raise an error, or leave
            it out for all models.
        language: for multilingual models; see `echo.model.language.set_language`.
        task: for multilingual models, "transcribe" or "translate".
        normaliser: see `evaluate_model`.

    Returns:
        The content of `comparison.json`: the set, the device and the settings; `models`, with the
        checkpoint, config, padding and cost of each; the result of `error_rates_by_set`;
        `groups`, by column; `ctc`, likewise of the CTC heads alone; and `changed`, the utterances
        that changed most, for each model except the first.

    Raises:
        EchoError: there are fewer than two models, one cannot be loaded, a column is unknown, an
            utterance cannot be used, or the folder holds results or cannot be written.
    """
    check(settings, "settings")
    convert(OnError, on_error, "compare_models", "on_error")
    out = Path(out)
    if len(sources) < 2:
        raise EchoError("a comparison needs two or more models")
    for column in by:
        check_column(utterances, column)
    names = unique_names(sources)
    if reserved := next(filter(is_reserved, names), None):
        raise EchoError(
            f"the model {reserved} has the name of a file of the comparison: rename its folder"
        )
    result_folder(out, "comparison.json")
    for name in names:
        result_folder(out / name, "evaluation.json")

    def load(source: str) -> LoadedModel:
        return load_model(source, which, language, task)

    utterances = scored(utterances, normaliser)
    fitting, normalise = prepare(sources, utterances, load, on_error, normaliser)
    models: list[dict[str, Any]] = []
    evaluations, alone = {}, {}  # as `settings` say, and by the CTC head alone where there is one
    for name, source in zip(names, sources, strict=True):
        logger.info("measuring %s", name)
        equal = models[0]["padding"] if models else None
        loaded = load(source)
        transcripts, found = measure(loaded, fitting, settings, on_error, equal)
        evaluations[name] = score(transcripts, normalise)
        if by_ctc := CTC.settings(settings, loaded.model.config):
            heard = transcribe_set(loaded, fitting, by_ctc, on_error, progress=True)
            alone[name] = score(heard, normalise)
        models.append({"name": name, "source": source, **found})
        evaluations[name].write(out / name)
    common = on_common(evaluations)
    first, *others = common.values()
    measured = first.transcripts.utterances
    comparison = {
        "data": data,
        "utterances": len(measured),
        "left_out": len(utterances) - len(measured),
        "audio_seconds": sum(u.duration for u in measured),
        "device": device_name(),
        "decode": asdict(settings),
        "normaliser": normalise.name,
        "by_letters": first.by_letters,
        "models": models,
        **error_rates_by_set(common),
        CTC.key: error_rates_by_set(on_common(alone)) if alone else None,
        "groups": {column: grouped_errors(common, column) for column in by},
        "changed": {
            name: most_changed(first, other) for name, other in zip(names[1:], others, strict=True)
        },
    }
    text = json.dumps(comparison, indent=2, allow_nan=False)
    replace_text(out / "comparison.md", render_comparison(comparison))
    replace_text(out / "comparison.json", text + "\n")
    return comparison


def unique_names(sources: Sequence[str]) -> list[str]:
    """A short name for each model and its folder: the last part of its path or hub id."""
    return distinct(Path(source).resolve().name or "model" for source in sources)


def prepare(
    sources: Sequence[str],
    utterances: Sequence[Utterance],
    load: Callable[[str], LoadedModel],
    on_error: OnError,
    normaliser: NormaliserName = "whisper",
) -> tuple[Sequence[Utterance], Normaliser | RowNormalisers]:
    """Returns the utterances that all models accept, and one normaliser (or one for each row that
    says its language) for all models.

    The normaliser is shared because some tokenizers have more spelling rules than others. Every
    model is loaded here once, so that errors show up before anything is measured. Each is dropped
    again, because all of them together might not fit in memory.
    """
    fitting = utterances
    tokenizers, written = [], set()
    for source in sources:
        loaded = load(source)
        reader = ExampleReader.of(loaded.model, loaded.tokenizer, labelled=False)
        try:
            fitting = check_utterances(fitting, reader, on_error)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        tokenizers.append(loaded.tokenizer)
        written.add(written_language(loaded.model))
        model = loaded.model
    most = max(tokenizers, key=lambda tokenizer: len(tokenizer.english_spelling_normalizer or {}))
    # The English normaliser would corrupt text in any other language. So another language wins: a
    # model that writes only English is wrong there anyway.
    language = min(written - {"en", None}, key=str, default=None)
    return fitting, shared_normalisers(LoadedModel(model, most), fitting, language, normaliser)


def measure(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    settings: DecodeSettings,
    on_error: OnError,
    equal: dict[str, Any] | None,
) -> tuple[Transcripts, dict[str, Any]]:
    """Returns one model's transcripts and a summary.

    The summary has the name of a run's `checkpoint`, the model's `config` where it differs from the
    defaults, its `padding`, and its cost: `parameters`, `rtfx`, and peak memory in bytes (weights
    plus everything that decoding allocates). `rtfx_equal_padding` is with the padding `equal`, None
    if the model's input is too short for it.
    """
    model = loaded.model
    to_device(model)
    # Warm up, or the one-off setup would count towards the first model's time and memory.
    silence = AudioArray(np.zeros(SAMPLE_RATE), SAMPLE_RATE, "silence")
    transcribe_set(loaded, [Utterance("silence", silence, "", 1.0)], settings)
    with PeakMemory(model.device) as peak:
        transcripts = transcribe_set(loaded, utterances, settings, on_error, progress=True)
    own = Limits.of(model.config)
    padding = {"pad_to_seconds": own.pad_to_seconds, "added_silence": own.added_silence}
    rtfx: float | None = transcripts.rtfx
    if equal and equal != padding:
        heard = transcripts.utterances
        limits = replace(own, **equal)
        longest = max(u.duration for u in heard) + limits.added_silence
        rtfx = None
        if max(longest, limits.pad_to_seconds) * FRAMES_PER_SECOND <= limits.max_frames:
            rtfx = transcribe_set(loaded, heard, settings, progress=True, limits=limits).rtfx
    return transcripts, {
        "checkpoint": loaded.checkpoint,
        "config": loaded.model.config.to_diff_dict(),
        "padding": padding,
        "parameters": model.num_parameters(),
        "peak_memory_bytes": model.get_memory_footprint() + peak.added,
        "rtfx": transcripts.rtfx,
        "rtfx_equal_padding": rtfx,
    }


def on_common(evaluations: dict[str, Evaluation]) -> dict[str, Evaluation]:
    """Restricts the evaluations to the utterances that all models transcribed."""
    heard = [{u.id for u in e.transcripts.utterances} for e in evaluations.values()]
    common = set.intersection(*heard)
    if not common:
        raise DataError("there is no utterance that all models could transcribe")
    found = {}
    for name, evaluation in evaluations.items():
        own = evaluation.transcripts.utterances
        found[name] = evaluation.only([i for i, u in enumerate(own) if u.id in common])
    return found


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, threads: {torch.get_num_threads()}"
