"""Writes the page of a result that a command has written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from echo.data.utterance import Utterance
from echo.evaluate.result import Result
from echo.evaluate.summary import sentences
from echo.evaluate.verdict import verdict
from echo.report.configs import differing
from echo.report.curves import attention_charts, training_charts
from echo.report.groups import group_rates, overall_rates
from echo.report.maps import UtteranceMaps, attention_maps
from echo.report.mistakes import commonest, hallucinations
from echo.report.page import render
from echo.report.read import find_utterances, read_result
from echo.report.rows import by_telling, table
from echo.report.sound import Sound, embedded, link
from echo.support.files import replace_text
from echo.support.yaml import dump

PAGE = "report.html"
MAPPED = 2  # utterances whose attention is shown


def write_report(folder: Path, utterances: Sequence[Utterance] | None = None) -> Path:
    """Writes `report.html` into the folder of a pilot, comparison, evaluation or run; returns its
    path. The utterances that were measured are read again if they are not given."""
    page = folder / PAGE
    result, recordings = read_result(folder)
    found: Mapping[str, Utterance] = {}
    if result.lines:
        read = recordings if utterances is None else lambda: utterances
        found = find_utterances(result.lines, read)
    lines = [
        replace(line, extra=found[line.id].extra) if line.id in found else line
        for line in result.lines
    ]
    result = replace(result, lines=lines)
    telling = by_telling(result) if found else []
    sounds = embedded((i, found[lines[i].id].audio) for i in telling if lines[i].id in found)
    links = {
        i: address
        for i, line in enumerate(lines)
        if i not in sounds and line.id in found and (address := link(found[line.id].audio, page))
    }
    chosen = [found[lines[i].id] for i in [*sounds][:MAPPED]]
    maps = attention_maps(result.checkpoints, chosen)
    replace_text(page, render("result.html", sections(result, sounds, links, maps)))
    return page


def sections(
    result: Result,
    sounds: Mapping[int, Sound],
    links: Mapping[int, str],
    maps: Sequence[UtteranceMaps],
) -> dict[str, Any]:
    """What the template `result.html` shows; a section that the result does not have is empty."""
    heard = bool(result.lines)
    return {
        "result": result,
        "verdict": verdict(result),
        "sentences": sentences(result),
        # Earlier comparisons have no normalised texts, so these intervals would be of another WER.
        "overall": overall_rates(result) if heard and result.view == result.wer else {},
        "groups": group_rates(result) if heard else {},
        "mistakes": commonest(result) if heard else {},
        "hallucinations": hallucinations(result) if heard else {},
        "training": [asdict(chart) for chart in training_charts(result)],
        "attention": {
            model: [asdict(chart) for chart in charts]
            for model, charts in attention_charts(result).items()
        },
        "maps": maps,
        "table": table(result, links) if heard else {},
        "sounds": sounds,
        "differing": differing(result.configs),
        "configs": {model: dump(config) for model, config in result.configs.items()},
    }
