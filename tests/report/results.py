"""Small results in the form that the commands write, made without training."""

import json
from pathlib import Path

from echo.data.fingerprint import describe
from echo.data.sources import ReadOptions, read_source
from echo.evaluate.decoding import Transcripts
from echo.evaluate.differences import error_rates, most_changed
from echo.evaluate.evaluation import score
from echo.evaluate.measure import DataSet
from echo.evaluate.normaliser import Normaliser
from echo.pilot.contenders import read_pilot
from echo.pilot.measure import MEASURED_FILE
from echo.pilot.result import collect, run_folder
from echo.support.provenance import write_provenance
from echo.support.settings import to_dict
from echo.support.yaml import save_yaml
from tests.data.recordings import tone, write, write_manifest

LOWER = Normaliser("lower", str.lower)
FOCUSED = {"encoder": ["plain", {"form": "adaptive", "max_span": 16}], "decoder": "plain"}


def data_set(folder, texts, seconds=0.5):
    """A manifest of tones; the first lasts longest."""
    rows = []
    for i, text in enumerate(texts):
        write(folder / f"{i}.wav", tone(seconds + 0.1 * (i == 0)))
        rows.append(
            {
                "audio_filepath": f"{i}.wav",
                "text": text,
                "speaker": f"s{i % 2}",
                "noise": f"n{i // 3}",
            }
        )
    return str(write_manifest(folder / "data.jsonl", *rows))


def evaluation(utterances, heard, times=None):
    return score(Transcripts(list(utterances), list(heard), 1.0, times or {}), LOWER)


def a_word_each_tenth(utterances, heard):
    """When each word was said, if each lasts 0.1 s."""
    return {
        u.id: [(i / 10, (i + 1) / 10) for i, _ in enumerate(text.split())]
        for u, text in zip(utterances, heard, strict=True)
    }


def comparison(folder, data, **heard):
    """A comparison of models that wrote what is given."""
    utterances = read_source(data)
    found = {name: evaluation(utterances, texts) for name, texts in heard.items()}
    first, *others = found.values()
    for name, one in found.items():
        one.write(folder / name)
    models = [
        {
            "name": name,
            "source": f"models/{name}",
            "checkpoint": None,
            "config": {"d_model": 32, "attention": {"encoder": name}},
            "padding": {"pad_to_seconds": 0.0, "added_silence": 0.0},
            "parameters": 1_000_000,
            "peak_memory_bytes": 5_000_000,
            "rtfx": 10.0 * (i + 1),
            "rtfx_equal_padding": 10.0 * (i + 1),
        }
        for i, name in enumerate(found)
    ]
    content = {
        "data": data,
        "utterances": len(utterances),
        "left_out": 0,
        "audio_seconds": sum(u.duration for u in utterances),
        "device": "CPU, threads: 1",
        "decode": {"beams": 1},
        "normaliser": "lower",
        "models": models,
        **error_rates(found),
        "groups": {"noise": []},
        "changed": {
            name: most_changed(first, other)
            for name, other in zip([*found][1:], others, strict=True)
        },
    }
    (folder / "comparison.json").write_text(json.dumps(content))
    described = DataSet(data, ReadOptions()).described(utterances)
    write_provenance(folder, which="best", **described)
    return folder


def pilot(folder, data, heard, seeds=(1, 2)):
    """A pilot of a focused and a plain model.

    Args:
        heard: by model, what each seed wrote.
    """
    models = {
        "echo": {"model": {"attention": FOCUSED}},
        "whisper": {"model": {"attention": {"encoder": "plain"}}},
    }
    content = {
        "model": {"encoder_layers": 2, "decoder_layers": 1, "d_model": 32, "heads": 2},
        "data": {"train": data, "eval": data},
        "models": models,
    }
    settings = read_pilot(content, "test", seeds=list(seeds))
    utterances = read_source(data)
    for contender in settings.contenders:
        for seed, texts in zip(seeds, heard[contender.name], strict=True):
            run = run_folder(folder, contender.name, seed)
            found = evaluation(utterances, texts, a_word_each_tenth(utterances, texts))
            found.write(run / "evaluation")
            save_yaml(to_dict(contender.with_seed(seed)), run / "config.yaml")
            write_metrics(run, contender.name == "echo")
            write_provenance(run, data={"training": describe(utterances)})
            measured = {
                "steps": 40,
                "train_seconds": 8.0,
                "final_loss": 0.5,
                "parameters": 1_000,
                "attention": None,
                "decoder": None,
                "joint": found.to_dict(),
            }
            (run / MEASURED_FILE).write_text(json.dumps(measured))
    (folder / "pilot.json").write_text(json.dumps(collect(settings, folder)))
    return folder


def write_metrics(run: Path, focused: bool):
    events = []
    for step in range(10, 50, 10):
        event = {"kind": "train", "step": step, "loss": 10 / step, "seconds": step / 5}
        if focused:
            event |= {"span/encoder.1": 0.5, "temperature/encoder.1": 0.6, "gain/encoder.1": 1.0}
        events += [event, {"kind": "eval", "step": step, "wer": 5 / step, "seconds": step / 5}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
