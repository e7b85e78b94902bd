"""The pilot for a GPU, in its own shape, before someone spends a GPU on it."""

import json
import math

import pytest

from echo.pilot.contenders import read_pilot
from echo.pilot.run import run_pilot
from echo.support.yaml import read_yaml
from echo.train.recorder import read_metrics

CONFIG = "configs/pilot_echo_vs_whisper.yaml"


@pytest.mark.slow
def test_the_large_pilot_takes_its_first_steps(shared, tmp_path):
    data = shared / "data" / "librispeech"
    for part, count in (("train", 40), ("dev", 1)):
        lines = [json.loads(line) for line in (data / f"{part}.jsonl").read_text().splitlines()]
        shortest = sorted(lines, key=lambda line: line["duration"])[:count]
        for line in shortest:
            line["audio_filepath"] = str(data / line["audio_filepath"])
        (tmp_path / f"{part}.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in shortest))
    overrides = [
        f"data.train={tmp_path / 'train.jsonl'}",
        f"data.eval={tmp_path / 'dev.jsonl'}",
        "data.allow_outside=true",
        "data.workers=0",
        "data.max_batch_size=1",  # a single utterance a step, for a CPU
        "train.max_steps=4",
        "train.warmup_steps=1",
    ]
    pilot = read_pilot(read_yaml(CONFIG), CONFIG, overrides)
    result = run_pilot(pilot, tmp_path / "pilot")
    assert [model["steps"]["mean"] for model in result["models"]] == [4, 4]
    sizes = {model["model"]: model["parameters"] for model in result["models"]}
    assert 40e6 < sizes["whisper"] <= sizes["echo"] < 1.01 * sizes["whisper"]
    for model in result["models"]:
        events = read_metrics(tmp_path / "pilot" / model["model"] / "seed-1")
        assert all(math.isfinite(e["loss"]) for e in events if e["kind"] == "train")
