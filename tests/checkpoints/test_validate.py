"""What is damaged or does not fit together in a checkpoint is named, whichever command reads it."""

import sys

import pytest
import soundfile
import torch

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.cli import main
from echo.support.errors import EchoError
from tests.small_whisper import DAMAGES, save_whisper, small_whisper


@pytest.fixture
def whisper(tmp_path):
    return save_whisper(small_whisper(), tmp_path / "whisper")


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_bad_checkpoint_is_one_sentence_and_leaves_nothing(whisper, tmp_path, damage, message):
    damage(whisper)
    for use in (lambda: convert(whisper, tmp_path / "out" / "echo"), lambda: load_model(whisper)):
        with pytest.raises(EchoError, match=message) as raised:
            use()
        assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["whisper"]


def test_an_echo_models_own_weights_are_checked_too(whisper, tmp_path):
    echo = tmp_path / "echo"
    convert(whisper, echo)
    assert load_model(str(echo)).model.config.model_type == "echo"
    DAMAGES["a weight too few"][0](echo)
    with pytest.raises(EchoError, match=r"lacks the weight model\.decoder.layer_norm\.bias"):
        load_model(str(echo))


@pytest.mark.parametrize("command", ["convert", "evaluate", "train"])
def test_on_the_command_line(whisper, tmp_path, monkeypatch, capsys, command):
    soundfile.write(tmp_path / "one.wav", torch.zeros(8000).numpy(), 16_000)
    data = tmp_path / "data.jsonl"
    data.write_text('{"audio_filepath": "one.wav", "duration": 0.5, "text": "one"}\n')
    out = tmp_path / "out"

    def fails(model):
        arguments = {
            "convert": [model, out],
            "evaluate": [model, data, "--out", out],
            "train": [
                "configs/finetune.yaml",
                *(f"init={model}", f"data.train={data}", f"data.eval={data}"),
                *("--out", out),
            ],
        }[command]
        monkeypatch.setattr(sys, "argv", ["echo-asr", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert not out.exists() or not any(out.iterdir())
        return line

    assert f"{data}: is a file, not the folder of a model" in fails(data)
    assert "nowhere: is neither a folder nor a model of the hub" in fails("nowhere")
    DAMAGES["cut weights"][0](whisper)
    assert "model.safetensors: cannot be read as safetensors" in fails(whisper)
    DAMAGES["another model"][0](whisper)
    assert "its model_type is 'bert', not 'whisper' or 'echo'" in fails(whisper)
