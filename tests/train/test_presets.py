"""Every form of the attention, as its preset has it, trains, is saved, loaded and evaluated."""

from pathlib import Path

import pytest

from echo.checkpoints.load import load_model
from echo.config import RunConfig
from echo.data.build import build_corpus
from echo.evaluate.evaluation import evaluate_model
from echo.support.settings import apply_overrides, build, merge
from echo.train.recorder import read_metrics
from echo.train.run import start_run
from tests.train.test_loop import TINY

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "attention").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_trains_and_is_evaluated(shared, tmp_path, preset):
    content = merge(TINY, {"data": {"root": str(shared / "data" / "fsdd")}})
    content = apply_overrides(content, [str(preset), "train.max_steps=2"])
    config = build(RunConfig, content, preset.name)
    form = preset.stem.split("_")[0]
    corpus = build_corpus(config.data, config.seed)
    progress = start_run(config, tmp_path, corpus)
    assert progress.step == 2
    loaded = load_model(str(tmp_path), "last")
    forms = {layer.form for layer in loaded.model.config.encoder_attention()}
    assert forms == {form}
    evaluation = evaluate_model(loaded, corpus.eval_utterances()[:2], config.decode)
    assert evaluation.wer.reference > 0
    logged = next(event for event in read_metrics(tmp_path) if event["kind"] == "train")
    assert ("span/encoder.0" in logged) == (form != "plain")
    if form != "plain":
        assert 0 < logged["span/encoder.0"] < 1
        assert logged["entropy_local/encoder.1"] > 0
        assert logged["entropy_global/encoder.1"] > 0
        assert logged["temperature/encoder.0"] > 0
