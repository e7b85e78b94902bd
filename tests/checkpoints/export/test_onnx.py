"""ONNX graphs compute what the model computes, for every form, at any length."""

import json

import numpy as np
import pytest
import torch

from echo.attention import focus
from echo.checkpoints.export.onnx import write_onnx, write_transcription
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from tests.small_whisper import TOKENIZER

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def make_model(encoder="plain", decoder="plain", **changes):
    torch.manual_seed(0)
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "max_source_positions": 200,
        "max_target_positions": 120,
        "vocab_size": len(TOKENIZER),
        "pad_token_id": TOKENIZER.pad_token_id,
        "bos_token_id": TOKENIZER.bos_token_id,
        "eos_token_id": TOKENIZER.eos_token_id,
        "decoder_start_token_id": TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>"),
        "begin_suppress_tokens": None,
        "init_std": 0.3,
    }
    attention = {"encoder": encoder, "decoder": decoder}
    config = EchoConfig(**{**sizes, **changes}, attention=attention)
    return EchoForConditionalGeneration(config).eval()


def run(folder, name, **inputs):
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    names = [output.name for output in session.get_outputs()]
    feed = {key: torch.as_tensor(value).numpy() for key, value in inputs.items()}
    return dict(zip(names, session.run(None, feed), strict=True))


# Decoders must reach past their windows. Two forms are two layers of one model, because a graph
# takes long to export whatever it holds.
HARD = {"window": 4, "max_span": 5, "max_dist": 6}
POOLED = {"form": "adaptive", "global_stride": 4, "max_global_keys": 30}
RICHER = {
    "form": "adaptive",
    "max_span": 4,
    "rotary_base": 100,
    "span_per_head": True,
    "relative_bias": True,
    "local_input": "projected",
}
REFINED = {"form": "focus", "refiner": True}
CONVOLUTION = {"form": "convolution", "max_span": 4, "ramp": 2}
FORMS = {
    "plain, convolution": (["plain", CONVOLUTION], ["plain", CONVOLUTION]),
    "adaptive": (
        ["adaptive", POOLED],
        [{"form": "adaptive", "max_span": 4, "ramp": 2}, RICHER],
    ),
    "hybrid, scaled": (
        ["hybrid", "scaled"],
        [{"form": "hybrid", **HARD}, {"form": "scaled", **HARD}],
    ),
    "focus": ([REFINED], [{"form": "focus", **HARD}, {**REFINED, **HARD}]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "decoder"), FORMS.values(), ids=FORMS.keys())
def test_logits_are_those_of_a_whole_forward_pass(encoder, decoder, tmp_path, monkeypatch):
    """Step by step, in a batch of recordings of different lengths, one of them odd."""
    monkeypatch.setattr(focus, "ROUNDS", 2)  # each of which a graph repeats
    ctc = "adaptive" in encoder
    model = make_model(
        encoder,
        decoder,
        encoder_layers=len(encoder),
        decoder_layers=len(decoder),
        cross_positions=ctc,
        ctc=ctc,
        ctc_layers="mean" if ctc else "last",
    )
    write_onnx(model, tmp_path)
    for frames, prompt, tokens in ((6, 1, 7), (92, 4, 12), (400, 70, 76)):
        features = torch.randn(3, 80, frames)
        mask = torch.ones(3, frames, dtype=torch.long)
        mask[1, frames // 2 - (frames // 2 + 1) % 2 :] = 0
        ids = torch.randint(len(TOKENIZER), (3, tokens))
        with torch.no_grad():
            expected = model(features, mask, decoder_input_ids=ids, use_cache=False)
        heard = run(tmp_path, "encoder", input_features=features, attention_mask=mask)
        if ctc:
            real = mask[:, ::2].bool()
            found = torch.from_numpy(heard["ctc_logits"])[real]
            torch.testing.assert_close(found, expected.ctc_logits[real], rtol=0, atol=1e-4)
        hidden = {"encoder_hidden_states": heard["last_hidden_state"], "attention_mask": mask}
        output = run(tmp_path, "decoder", input_ids=ids[:, :prompt], **hidden)
        logits, past = [output.pop("logits")], {}
        for i in range(prompt, tokens):
            past |= {k.replace("present", "past_key_values"): v for k, v in output.items()}
            step = {"input_ids": ids[:, i : i + 1], "attention_mask": mask}
            output = run(tmp_path, "decoder_with_past", **step, **past)
            logits.append(output.pop("logits"))
        found = torch.from_numpy(np.concatenate(logits, axis=1))
        torch.testing.assert_close(found, expected.logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_what_the_exporter_gets_wrong_is_refused(tmp_path, monkeypatch):
    model = make_model()
    forward = model.model.encoder.forward

    def other(features, mask):
        found = forward(features, mask)
        if torch.compiler.is_exporting():
            found.last_hidden_state = found.last_hidden_state * 1.01
        return found

    monkeypatch.setattr(model.model.encoder, "forward", other)
    with pytest.raises(ConfigError, match="of its encoder would differ by 1"):
        write_onnx(model, tmp_path)


def test_what_a_program_needs_beside_the_graphs(tmp_path):
    model = make_model(pad_to_seconds=None, added_silence=0.5)
    model.generation_config.suppress_tokens = [3]
    write_transcription(model, TOKENIZER, tmp_path)
    told = json.loads((tmp_path / "transcribe.json").read_text())
    start = TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>")
    assert (told["prompt"], told["languages"], told["end"]) == (
        [start],
        {},
        TOKENIZER.eos_token_id,
    )
    assert (told["suppress"], told["begin_suppress"], told["max_tokens"]) == ([3], [], 120)
    assert (told["pad_to_seconds"], told["added_silence"], told["max_seconds"]) == (0, 0.5, 4)
    assert np.load(tmp_path / "mel_filters.npy").shape == (80, 201)
    assert (tmp_path / "tokenizer.json").exists()
