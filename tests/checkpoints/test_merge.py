"""Weighted means of models' weights, in whichever form they are kept, and what has none."""

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.checkpoints.merge import check_shares, read_parents, write_mean
from echo.checkpoints.run import CheckpointFolder
from echo.support.errors import ConfigError, EchoError
from echo.train.run import start_run
from tests.small_whisper import other_tokenizer, save_whisper, small_whisper
from tests.train.test_loop import tiny

PLAIN = ["attention.encoder=plain", "attention.decoder=plain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds two Whispers, `a` in half precision, and `echo`, another as an Echo model."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b", "c")):
        torch.manual_seed(seed)
        model = small_whisper()
        with torch.no_grad():  # what a sum with 0 · y would lose
            model.model.encoder.layer_norm.bias[:2] = torch.tensor([-0.0, 1e-7])
        save_whisper(model.half() if name == "a" else model, folder / name)
    convert(folder / "c", folder / "echo", PLAIN)
    convert(folder / "c", folder / "focused", ["attention.encoder=hybrid"])
    save_whisper(small_whisper(d_model=96), folder / "wide")
    save_whisper(small_whisper(decoder_layers=1), folder / "short")
    save_whisper(small_whisper(encoder_attention_heads=2), folder / "heads")
    save_whisper(small_whisper(), folder / "tokens")
    other_tokenizer(folder / "tokens")
    return folder


def mean(folder, names, shares, out):
    write_mean(read_parents([str(folder / name) for name in names]), shares, out)
    return load_file(out / "model.safetensors")


def bits(tensor):
    return tensor.float().contiguous().view(torch.int32)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "echo"), ("echo", "b")])
def test_one_share_of_1_is_that_model_bit_for_bit(folder, tmp_path, names):
    for i, name in enumerate(names):
        found = mean(folder, names, (1 - i, i), tmp_path / name)
        expected = load_file(folder / name / "model.safetensors")
        assert found.keys() == expected.keys()
        for key, weight in expected.items():
            assert torch.equal(bits(found[key]), bits(weight)), key


def test_it_is_the_weighted_mean_of_all(folder, tmp_path):
    found = mean(folder, ("a", "b", "echo"), (0.2, 0.3, 0.5), tmp_path / "mean")
    parents = [load_file(folder / name / "model.safetensors") for name in ("a", "b", "echo")]
    for key, weight in found.items():
        exact = sum(s * p[key].double() for s, p in zip((0.2, 0.3, 0.5), parents, strict=True))
        torch.testing.assert_close(weight.double(), exact, rtol=1e-6, atol=1e-6)
        assert weight.dtype == torch.float32


def test_the_mean_is_of_the_form_and_the_padding_of_its_models(folder, tmp_path):
    """Whispers give a Whisper. With an Echo model it pads as the one with the larger share."""
    mean(folder, ("a", "b"), (0.5, 0.5), tmp_path / "whisper")
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "whisper")
    assert model.generation_config.suppress_tokens == [3, 5]
    assert (tmp_path / "whisper" / "normalizer.json").exists()
    echo = load_model(folder / "echo").model
    echo.config.pad_to_seconds, echo.config.added_silence = None, 1.0
    echo.config.save_pretrained(tmp_path / "config")
    natural = tmp_path / "natural"
    convert(folder / "c", natural, PLAIN)
    echo.config.save_pretrained(natural)
    for share, padding in ((0.4, (30.0, 0.0)), (0.5, (None, 1.0)), (0.6, (None, 1.0))):
        parents = read_parents([str(folder / "b"), str(natural)])
        write_mean(parents, (1 - share, share), tmp_path / str(share))
        config = load_model(tmp_path / str(share)).model.config
        assert (config.pad_to_seconds, config.added_silence) == padding
        assert config.architectures == ["EchoForConditionalGeneration"]
    card = ModelCard.load(tmp_path / "0.4" / "README.md")
    assert "| b       |    0.6 |" in card.content
    assert str(tmp_path) not in card.content


@pytest.mark.slow
def test_runs_take_part_with_their_checkpoints(shared, tmp_path):
    run = tmp_path / "run"
    start_run(tiny(shared, train={"max_steps": 2, "checkpoint_every": 1}), run)
    first = CheckpointFolder(run).newest()[-1]
    write_mean(read_parents([str(first), str(run)], "last"), (0, 1), tmp_path / "out")
    found = load_model(tmp_path / "out").model.state_dict()
    for name, weight in load_model(run, "last").model.state_dict().items():
        assert torch.equal(found[name], weight), name


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("wide", r"their weight model\..* is of shape \(.*48.*\) and \(.*96.*\)"),
        ("short", "their decoders have 2 and 1 layers"),
        ("heads", "their encoder_attention_heads is 4 and 2"),
        ("focused", "layer 0 of their encoders has the attention plain and hybrid"),
        ("tokens", "their tokenizers have different tokens"),
        ("none", "none: is neither a folder nor a model|no such folder"),
    ],
)
def test_what_cannot_be_averaged_is_told_in_one_sentence(folder, other, message):
    with pytest.raises(EchoError, match=message) as caught:
        read_parents([str(folder / "a"), str(folder / other)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.6), (1.5, -0.5), (float("nan"), 1)])
def test_shares_are_one_for_each_and_add_up_to_1(shares):
    with pytest.raises(ConfigError, match="--weights "):
        check_shares(shares, 2, "--weights")
