"""What is looked at is what the model computed, of the recording's own positions."""

import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from echo.checkpoints.load import LoadedModel, load_model
from echo.config import RunConfig
from echo.data.audio import AudioFile
from echo.data.utterance import Utterance
from echo.inspect import inspect
from echo.inspect.inspect import inspect_recording
from echo.support.errors import DataError
from echo.support.settings import build
from echo.train.build import build_model, build_tokenizer
from tests.data.recordings import tone, write
from tests.test_cli import run as cli

ADAPTIVE = {"form": "adaptive", "max_span": 7, "ramp": 3}
PER_HEAD = {**ADAPTIVE, "span_per_head": True, "temperature": "learned"}
HYBRID = {"form": "hybrid", "max_span": 9, "window": 6}
FOCUS = {"form": "focus", "max_span": 9, "window": 6}
STACKS = {
    "plain": (["plain", "plain"], "plain"),
    "adaptive": ([ADAPTIVE, PER_HEAD], [PER_HEAD, ADAPTIVE]),
    "hard windows": ([HYBRID, FOCUS], [FOCUS, HYBRID]),
    "strided": ([{**ADAPTIVE, "global_stride": 3}, {**HYBRID, "global_stride": 4}], "plain"),
    "strided, with few keys": ({**ADAPTIVE, "global_stride": 2, "max_global_keys": 7}, "plain"),
}


def tiny(encoder="plain", decoder="plain", layers=2, **config):
    """An untrained model of up to 4 seconds, whose spans and temperatures differ."""
    sizes = {"d_model": 32, "encoder_layers": layers, "decoder_layers": layers, "heads": 2}
    sizes |= {"max_seconds": 4, "max_tokens": 30}
    attention = {"encoder": encoder, "decoder": decoder}
    settings = build(RunConfig, {"model": {**sizes, "attention": attention}}, "test")
    digits = [Utterance(word, AudioFile(None), word, 1.0) for word in ("one", "two", "three")]
    tokenizer = build_tokenizer(settings, digits)
    model = build_model(settings, tokenizer).eval()
    for name, value in config.items():
        setattr(model.config, name, value)
    for name, parameter in model.named_parameters():
        if "span_predictor" in name or "log_temperature" in name:
            torch.nn.init.normal_(parameter)
    return LoadedModel(model, tokenizer)


@pytest.fixture
def digit(shared):
    """A spoken digit, of 0.3 s."""
    return shared / "data" / "fsdd" / "recordings" / "0_george_0.wav"


@pytest.mark.parametrize(("encoder", "decoder"), STACKS.values(), ids=STACKS.keys())
def test_weights_are_those_of_a_distribution(encoder, decoder, digit):
    inspection = inspect_recording(tiny(encoder, decoder), digit)
    layers = list(inspection.layers())
    assert [layer.numbers.name for layer in layers] == [
        "encoder-0",
        "encoder-1",
        "decoder-0",
        "decoder-1",
    ]
    frames = -(-inspection.log_mel.shape[1] // 2)
    for layer in layers:
        numbers, causal = layer.numbers, layer.numbers.stack == "decoder"
        T = len(inspection.tokens) if causal else frames
        expected = torch.ones(2, T)
        assert layer.overall.shape == (2, T, T)
        torch.testing.assert_close(layer.overall.sum(-1), expected)
        assert numbers.beyond == pytest.approx(0, abs=1e-6)
        if layer.local is not None:
            seeing = ~numbers.entropy["local"].isnan()
            assert layer.local.shape == (2, T, T)
            torch.testing.assert_close(layer.local.sum(-1), expected * seeing)
        for branch in (layer.overall, layer.local):
            assert not causal or branch is None or (branch.triu(1) == 0).all()
        if causal:
            assert layer.cross.shape == (2, T, frames)
            torch.testing.assert_close(layer.cross.sum(-1), expected)


def test_a_span_is_known_in_frames_and_seconds(digit):
    inspection = inspect_recording(tiny([PER_HEAD, HYBRID], [PER_HEAD, "plain"]), digit)
    layers = [layer.numbers for layer in inspection.layers()]
    for numbers, heads, max_span in zip(layers, (2, 1, 2), (7, 9, 7), strict=False):
        assert numbers.span.shape == (heads,)
        assert ((numbers.span > 0) & (numbers.span < 1)).all()
        torch.testing.assert_close(numbers.span_positions, numbers.span * max_span)
    torch.testing.assert_close(layers[0].span_seconds, layers[0].span * 7 * 0.02)
    assert layers[0].temperature.shape == (2,)
    assert layers[2].span_seconds is None
    assert layers[3].span is None
    assert layers[3].to_dict().keys() == {
        "layer",
        "form",
        "entropy_global",
        "weight_beyond_recording",
    }


def test_an_average_shares_its_weight_among_its_frames(digit):
    """Frames of one average weigh the same, and the last average may have fewer."""
    layer = next(inspect_recording(tiny({**ADAPTIVE, "global_stride": 4}), digit).layers())
    T = layer.overall.shape[1]
    assert T % 4, "the last average should be a shorter one"
    for start in range(0, T, 4):
        part = layer.overall[..., start : start + 4]
        assert (part == part[..., :1]).all()


@pytest.mark.parametrize("encoder", [ADAPTIVE, {**ADAPTIVE, "global_stride": 3}])
def test_appended_silence_is_not_shown(encoder, digit):
    """It counts as audio for the model: some of the weight goes there."""
    alone = inspect_recording(tiny(encoder), digit)
    padded = inspect_recording(tiny(encoder, pad_to_seconds=3.0), digit)
    assert padded.log_mel.shape == alone.log_mel.shape
    layer = next(padded.layers())
    assert layer.overall.shape == next(alone.layers()).overall.shape
    assert 0.5 < layer.numbers.beyond < 1
    seen = layer.overall.sum(-1).mean().item()
    assert seen + layer.numbers.beyond == pytest.approx(1)
    assert next(padded.layers()).cross is None


def test_plain_maps_are_those_of_transformers(shared):
    source = shared / "models" / "whisper-tiny.en"
    path = shared / "data" / "librispeech" / "dev" / "8226-274369-0000.opus"
    loaded = load_model(str(source))
    inspection = inspect_recording(loaded, path)
    assert "pursued by the commons" in inspection.transcript.lower()

    whisper = WhisperForConditionalGeneration.from_pretrained(
        source, attn_implementation="eager", dtype=torch.float32
    )
    samples = AudioFile(path).load().numpy()
    features = WhisperFeatureExtractor()(samples, sampling_rate=16_000, return_tensors="pt")
    ids = loaded.tokenizer(f" {inspection.transcript}").input_ids[:-1]
    with torch.inference_mode():
        expected = whisper.eval()(
            features.input_features,
            decoder_input_ids=torch.tensor([ids]),
            output_attentions=True,
        )
    frames = -(-inspection.log_mel.shape[1] // 2)
    layers = list(inspection.layers())
    encoder, decoder = layers[:4], layers[4:]
    for layer, weights in zip(encoder, expected.encoder_attentions, strict=True):
        wanted = weights[0, :, :frames, :frames]
        torch.testing.assert_close(layer.overall, wanted, rtol=0, atol=1e-5)
    for layer, own, cross in zip(
        decoder, expected.decoder_attentions, expected.cross_attentions, strict=True
    ):
        torch.testing.assert_close(layer.overall, own[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.cross, cross[0, ..., :frames], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", [False, True])
def test_cross_weights_are_those_of_the_queries_and_keys_that_were_computed(positions, digit):
    """With positions added to what is attended to, where the model does so."""
    loaded = tiny(cross_positions=positions)
    model = loaded.model.model
    blocks = [layer.encoder_attn for layer in model.decoder.layers]
    seen = {}
    for module in [model.encoder] + [p for block in blocks for p in (block.q_proj, block.k_proj)]:
        module.register_forward_hook(lambda m, args, output: seen.update({m: (args, output)}))
    inspection = inspect_recording(loaded, digit)
    seen = dict(seen)
    encoded = seen[model.encoder][1].last_hidden_state
    if positions:
        encoded = encoded + model.encoder.embed_positions.weight[: encoded.shape[1]]
    *_, first, second = inspection.layers()
    for layer, block in zip((first, second), blocks, strict=True):
        (heard,), key = seen[block.k_proj]
        torch.testing.assert_close(heard, encoded, rtol=0, atol=1e-6)
        query, key = (
            x[0].unflatten(-1, (2, 16)).transpose(0, 1) for x in (seen[block.q_proj][1], key)
        )
        expected = (query @ key.mT / 4).softmax(-1)[..., : layer.cross.shape[-1]]
        torch.testing.assert_close(layer.cross, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("transcript", ["", "two� fünf", "three " * 99])
def test_the_decoder_reads_what_can_be_written_of_any_transcript(transcript, digit, monkeypatch):
    monkeypatch.setattr(inspect, "decode_batch", lambda *_: [transcript])
    loaded = tiny()
    inspection = inspect_recording(loaded, digit)
    assert inspection.transcript == transcript
    assert 1 <= len(inspection.tokens) <= loaded.model.config.max_target_positions
    *_, layer = inspection.layers()
    assert layer.overall.isfinite().all()


def test_the_model_is_left_as_it_was(digit):
    loaded = tiny(ADAPTIVE)
    inspect_recording(loaded, digit)
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


def test_what_cannot_be_heard_is_one_sentence(tmp_path, monkeypatch, capsys):
    """A text, a folder, nothing at all, and a recording longer than the encoder takes."""
    long = write(tmp_path / "long.wav", tone(4.5))
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    loaded = tiny()
    for path, reason in (
        (long, "the audio is 4.5 s long, but the encoder takes 4.0 s"),
        (text, "cannot be read as audio"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none.wav", "no such recording"),
    ):
        with pytest.raises(DataError) as error:
            inspect_recording(loaded, path)
        assert str(error.value).startswith(f"{path}: {reason}")
        assert "\n" not in str(error.value)

    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    code, _, err = cli(monkeypatch, capsys, "inspect", tmp_path / "model", long, "--out", out)
    assert code == 2
    assert err.endswith(f"{long}: the audio is 4.5 s long, but the encoder takes 4.0 s\n")
    assert not any(out.iterdir())
