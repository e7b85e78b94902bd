"""Model cards: what the hub reads of one, and what it must not tell."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from echo.checkpoints.card import model_card, without_folders
from echo.checkpoints.merge import average_run
from echo.checkpoints.run import CheckpointFolder
from echo.config import RunConfig, load_config
from echo.data.utterance import FixedCorpus, Utterance
from echo.support.hub import hub_name
from echo.support.settings import build
from echo.train.recorder import read_metrics
from echo.train.run import start_run
from tests.train.test_loop import tiny


def config(**data):
    content = {"data": {"train": "org/name:en@train", "eval": "/home/someone/dev.jsonl", **data}}
    return build(RunConfig, {"init": "openai/whisper-tiny", **content}, "test")


def block(card, kind):
    [content] = re.findall(rf"^```{kind}\n(.*?)^```", card, re.M | re.S)
    return content


def test_front_matter_is_what_the_hub_reads():
    card = model_card(config(), "run", "de", None, [(2, {"": 0.5}), (4, {"": 0.12345})], step=4)
    data = ModelCard(card).data
    assert data.to_dict()["library_name"] == "transformers"
    assert data.pipeline_tag == "automatic-speech-recognition"
    assert (data.tags, data.language, data.metrics) == (["echo"], "de", ["wer"])
    assert (data.base_model, data.datasets) == ("openai/whisper-tiny", ["org/name"])
    [result] = data.eval_results
    assert (result.metric_type, result.metric_value) == ("wer", 12.35)
    assert result.dataset_name == "dev.jsonl"
    assert re.search(r"\|\s*2 \| 50\.00 % \|\n\|\s*4 \| 12\.3[45] % \|", card)


def test_a_checkpoint_claims_no_wer_of_another_step():
    data = ModelCard(model_card(config(), "run", evaluations=[(2, {"": 0.5})], step=3)).data
    assert data.eval_results is None
    assert data.metrics is None


def test_a_card_counts_what_was_trained_on():
    utterances = [Utterance(str(i), None, "one", duration=900) for i in range(6)]
    assert "6 utterances, 1.50 hours" in model_card(
        config(), "run", corpus=FixedCorpus(utterances, [])
    )


def test_paths_lose_their_folders_and_hub_ids_keep_theirs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert hub_name("models/mine") is None
    assert hub_name("models/other") == "models/other"
    for source in ("/home/x/data", "../data", "~/data/", r"C:\Users\x\data", "./a/data"):
        assert without_folders(source) == "data"


@pytest.mark.parametrize("name", ["a`|<b>\n---\n", "```\n# x", "{{ x }}: [", "'\"\\"])
def test_no_name_breaks_out_of_its_place(name):
    asked = config(eval=f"/x/{name}", root=name)
    card = model_card(asked, name, evaluations=[(1, {"": 0.25})], step=1)
    data = ModelCard(card).data
    assert data.eval_results[0].metric_value == 25
    assert yaml.safe_load(block(card, "yaml"))["data"]["train"] == "org/name:en@train"
    assert len(re.findall(r"^# ", card, re.M)) == 1


@pytest.mark.slow
def test_every_checkpoint_has_a_card_of_its_run_and_an_average_claims_nothing(shared, tmp_path):
    run = tmp_path / "run"
    start_run(tiny(shared, train={"eval_every": 3, "keep_best": 2}), run)
    wers = {e["step"]: e["wer"] for e in read_metrics(run) if e["kind"] == "eval"}
    for path in CheckpointFolder(run).newest():
        card = ModelCard.load(path / "README.md")
        [result] = card.data.eval_results
        step = int(path.name.removeprefix("step-"))
        assert result.metric_value == round(100 * wers[step], 2)
        assert card.data.model_name == "run"
        for secret in (str(shared), str(tmp_path), f"{Path.home()}/"):
            assert secret not in card.content
        (tmp_path / "again.yaml").write_text(block(card.content, "yaml"))
        assert load_config(tmp_path / "again.yaml").train.max_steps == 7
        assert "README.md" in json.loads((path / "checksums.json").read_text())
    average_run(run, 2, tmp_path / "average")
    average = ModelCard.load(tmp_path / "average" / "README.md")
    assert "mean of the weights" in average.content
    assert average.data.eval_results is None
    assert "WER" not in average.content
