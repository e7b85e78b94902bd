"""The whole model: equal to Whisper where it should be, and deaf to padding and the future."""

import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, WhisperConfig, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from echo.attention.base import FocusedAttention
from echo.attention.maps import attention_maps
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration

SIZES = {
    "vocab_size": 60,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_source_positions": 200,
    "max_target_positions": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "decoder_start_token_id": 2,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
PLAIN = {"encoder": "plain", "decoder": "plain"}
HYBRID = {"form": "hybrid", "max_span": 9, "window": 6}
SCALED = {"form": "scaled", "max_span": 12, "window": 6}
FOCUS = {"form": "focus", "max_span": 9, "window": 6}
ADAPTIVE = {"form": "adaptive", "max_span": 7, "ramp": 3}
CONVOLUTION = {"form": "convolution", "max_span": 5, "ramp": 3}
AT_OFFSETS = {"local_input": "projected", "local_heads": 8, "first_offset": 4}
ATTENTIONS = {
    "plain": PLAIN,
    "hybrid": {"encoder": HYBRID, "decoder": HYBRID},
    "hybrid, sharper for longer": {
        "encoder": {**HYBRID, "sharpen_longer": True},
        "decoder": {**HYBRID, "sharpen_longer": True},
    },
    "scaled": {"encoder": SCALED, "decoder": SCALED},
    "focus": {"encoder": FOCUS, "decoder": FOCUS},
    "focus, refined": {
        "encoder": {**FOCUS, "refiner": True},
        "decoder": {**FOCUS, "refiner": True},
    },
    "adaptive": {"encoder": ADAPTIVE, "decoder": ADAPTIVE},
    "convolution": {"encoder": CONVOLUTION, "decoder": CONVOLUTION},
    "adaptive, span per head": {
        "encoder": {**ADAPTIVE, "span_per_head": True, "temperature": "learned"},
        "decoder": {**ADAPTIVE, "span_per_head": True, "temperature": "learned"},
    },
    "adaptive over the input": {
        "encoder": {**ADAPTIVE, "local_input": "input"},
        "decoder": {**ADAPTIVE, "local_input": "input"},
    },
    "adaptive, projected": {
        "encoder": {**ADAPTIVE, "local_input": "projected"},
        "decoder": {**ADAPTIVE, "local_input": "projected"},
    },
    "adaptive, at offsets": {
        "encoder": {**ADAPTIVE, **AT_OFFSETS},
        "decoder": {**ADAPTIVE, **AT_OFFSETS},
    },
    "adaptive, by distance": {
        "encoder": {**ADAPTIVE, **AT_OFFSETS, "local_scores": "distance"},
        "decoder": {**ADAPTIVE, **AT_OFFSETS, "local_scores": "distance"},
    },
    "adaptive, relative bias": {
        "encoder": {**ADAPTIVE, "relative_bias": True},
        "decoder": {**ADAPTIVE, "relative_bias": True},
    },
    "rotary": {
        "encoder": [{**ADAPTIVE, "rotary_base": 10000}, {**HYBRID, "rotary_base": 100}],
        "decoder": [{**ADAPTIVE, "rotary_base": 10000}, {**HYBRID, "rotary_base": 100}],
    },
    "strided": {
        "encoder": [{**ADAPTIVE, "global_stride": 3}, {**HYBRID, "global_stride": 2}],
        "decoder": "plain",
    },
    "strided, with few keys": {
        "encoder": {**ADAPTIVE, "global_stride": 2, "max_global_keys": 20},
        "decoder": "plain",
    },
    "mixed": {"encoder": [ADAPTIVE, "plain"], "decoder": ["plain", HYBRID]},
}
STARTS_AS_WHISPER = {k: v for k, v in ATTENTIONS.items() if not k.startswith(("strided", "rotary"))}


@pytest.fixture(params=ATTENTIONS.values(), ids=ATTENTIONS.keys())
def model(request):
    """A model with a CTC head and positions for cross-attention, whose local branches are awake."""
    config = EchoConfig(**SIZES, attention=request.param, ctc=True, cross_positions=True)
    model = EchoForConditionalGeneration(config)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "initial_weights"):
                for name in module.initial_weights():
                    torch.nn.init.normal_(module.get_parameter(name), std=0.3)
            if isinstance(module, FocusedAttention):
                torch.nn.init.normal_(module.span_predictor.linear.weight, std=2)
    return model.eval()


def batch(frames=331, longest=397):
    features = torch.randn(2, 80, longest)
    mask = (torch.arange(longest) < torch.tensor([[frames], [longest]])).long()
    return features, mask, torch.randint(3, 60, (2, 11))


def test_plain_blocks_make_whisper():
    whisper = WhisperForConditionalGeneration(WhisperConfig(**SIZES)).eval()
    echo = EchoForConditionalGeneration(EchoConfig(**SIZES, attention=PLAIN)).eval()
    echo.load_state_dict(whisper.state_dict())
    features, _, ids = batch(longest=400)
    with torch.no_grad():
        expected = whisper(features, decoder_input_ids=ids).logits
        found = echo(features, decoder_input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_new_model_has_whispers_positions():
    """Frozen as they are, nothing else would ever put them right."""
    whisper = WhisperForConditionalGeneration(WhisperConfig(**SIZES))
    echo = EchoForConditionalGeneration(EchoConfig(**SIZES))
    found = echo.model.encoder.embed_positions.weight
    assert torch.equal(found, whisper.model.encoder.embed_positions.weight)
    assert not found.requires_grad


def with_gain(attention, gain):
    """The attention with a `local_gain` in every focused block."""
    if isinstance(attention, dict) and "form" in attention:
        return {**attention, "local_gain": gain}
    if isinstance(attention, dict):
        return {stack: with_gain(value, gain) for stack, value in attention.items()}
    if isinstance(attention, list):
        return [with_gain(value, gain) for value in attention]
    return attention


@pytest.mark.parametrize("gain", [0, None])
@pytest.mark.parametrize("attention", STARTS_AS_WHISPER.values(), ids=STARTS_AS_WHISPER.keys())
def test_a_block_begins_as_its_global_branch_only_without_a_gain(attention, gain):
    """With a gain of 0 it gives what Whisper's would; by default the local branch takes part."""
    plain = EchoForConditionalGeneration(EchoConfig(**SIZES, attention=PLAIN)).eval()
    config = EchoConfig(**SIZES, attention=with_gain(attention, gain))
    echo = EchoForConditionalGeneration(config).eval()
    for source, target in zip(
        [*plain.model.encoder.layers, *plain.model.decoder.layers],
        [*echo.model.encoder.layers, *echo.model.decoder.layers],
        strict=True,
    ):
        attn = target.self_attn
        getattr(attn, "global_attn", attn).load_state_dict(
            source.self_attn.state_dict(), strict=False
        )
        if hasattr(attn, "ln_global"):
            attn.ln_global.load_state_dict(source.self_attn_layer_norm.state_dict())
    rest = {k: v for k, v in plain.state_dict().items() if ".self_attn" not in k}
    echo.load_state_dict(rest, strict=False)
    features, mask, ids = batch()
    with torch.no_grad():
        expected = plain(features, attention_mask=mask, decoder_input_ids=ids).logits
        found = echo(features, attention_mask=mask, decoder_input_ids=ids).logits
    if gain == 0 or attention == PLAIN:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    else:
        assert (found - expected).abs().max() > 0.01


def test_cross_attention_reads_the_positions_once_more():
    """As if the encoder's output had them added; CTC reads the output as it is."""
    config = EchoConfig(**SIZES, attention=PLAIN, ctc=True, cross_positions=True)
    model = EchoForConditionalGeneration(config).eval()
    features, mask, ids = batch()
    with torch.no_grad():
        found = model(features, attention_mask=mask, decoder_input_ids=ids)
        encoded = model.model.encoder(features, attention_mask=mask)
        torch.testing.assert_close(
            found.ctc_logits, model.ctc_head(encoded.last_hidden_state), rtol=0, atol=1e-6
        )
        frames = encoded.last_hidden_state.shape[1]
        encoded.last_hidden_state += model.model.encoder.embed_positions.weight[:frames]
        model.config.cross_positions = False
        expected = model(attention_mask=mask, encoder_outputs=encoded, decoder_input_ids=ids)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 37, 200, 331])
def test_padding_and_neighbours_change_nothing(model, frames):
    """Encoder, CTC and decoder logits of an utterance alone are those it has in any batch."""
    features, mask, ids = batch(frames)
    noise = torch.randn_like(features) * (1 - mask[:, None]) * 9
    with torch.no_grad():
        together = model(features + noise, attention_mask=mask, decoder_input_ids=ids)
        alone = model(features[:1, :, :frames], decoder_input_ids=ids[:1])
    length = -(-frames // 2)
    for name, rows in (
        ("encoder_last_hidden_state", length),
        ("ctc_logits", length),
        ("logits", 11),
    ):
        torch.testing.assert_close(
            getattr(together, name)[:1, :rows], getattr(alone, name), rtol=0, atol=1e-4
        )


def test_transcripts_do_not_depend_on_the_batch(model):
    features, mask, _ = batch()
    together = model.generate(features, attention_mask=mask, max_length=24)
    alone = model.generate(features[:1, :, :331], max_length=24)
    length = alone.shape[1]
    assert together[0, :length].tolist() == alone[0].tolist()
    assert (together[0, length:] == 0).all()


def test_the_decoder_does_not_see_the_future(model):
    features, mask, ids = batch()
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] - 2) % 57 + 3
    with torch.no_grad():
        before = model(features, attention_mask=mask, decoder_input_ids=ids).logits
        after = model(features, attention_mask=mask, decoder_input_ids=changed).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.equal(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("steps", [[11], [4, 1, 3, 2, 1]])
def test_padding_before_a_prompt_changes_nothing(model, steps):
    """Prompts of different lengths begin with padding; each row gets what it gets alone."""
    features, mask, ids = batch()
    real = torch.ones_like(ids)
    real[0, :3] = 0  # the first call holds tokens of both
    places = (real.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(features[:1], mask[:1], ids[:1, 3:]).logits
        encoded = model.model.encoder(features, attention_mask=mask)
        cache, logits, end = None, [], 0
        for tokens, positions in zip(ids.split(steps, 1), places.split(steps, 1), strict=True):
            end += tokens.shape[1]
            output = model(
                encoder_outputs=encoded,
                decoder_input_ids=tokens,
                decoder_attention_mask=real[:, :end],
                decoder_position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, 1)[:1, 3:], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [[1] * 11, [4, 1, 3, 2, 1]])
def test_decoding_with_a_cache_equals_one_pass(model, steps):
    features, mask, ids = batch()
    with torch.no_grad():
        expected = model(features, attention_mask=mask, decoder_input_ids=ids).logits
        encoded = model.model.encoder(features, attention_mask=mask)
        cache, logits = None, []
        for tokens in ids.split(steps, dim=1):
            output = model(
                attention_mask=mask,
                encoder_outputs=encoded,
                decoder_input_ids=tokens,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, 1), expected, rtol=0, atol=1e-5)


def test_beams_are_reordered_with_everything_they_remember(model):
    """Beam search with a cache finds what it finds without one."""
    features, mask, _ = batch()
    found = [
        model.generate(
            features, attention_mask=mask, num_beams=4, max_length=16, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(*found)


def test_gradients_are_finite_and_reach_the_span(model):
    features, mask, ids = batch()
    model.train()
    model(features, attention_mask=mask, decoder_input_ids=ids).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    for block in model.modules():
        if isinstance(block, FocusedAttention):
            gradient = block.span_predictor.linear.weight.grad
            if block.learns_span:
                assert gradient.abs().max() > 0
            else:
                assert gradient is None  # the hard forms' spans do not learn


def test_saving_and_loading_keeps_everything(model, tmp_path):
    model.generation_config.max_length = 19
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    assert isinstance(loaded, EchoForConditionalGeneration)
    assert loaded.generation_config.max_length == 19
    found = loaded.state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    features, mask, ids = batch()
    with torch.no_grad():
        # Products round differently where weights lie differently in memory.
        torch.testing.assert_close(
            loaded(features, attention_mask=mask, decoder_input_ids=ids).logits,
            model(features, attention_mask=mask, decoder_input_ids=ids).logits,
            rtol=0,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"encode": "plain"}, "attention has no stack 'encode'; it has: encoder, decoder"),
        ({"encoder": ["plain"]}, "attention.encoder lists 1 blocks, but there are 2 layers"),
        (
            {"decoder": {"form": "hybrid", "window": 99}},
            "attention.decoder: window .99. must not exceed max_span",
        ),
        ({"decoder": {"global_stride": 2}}, "attention.decoder has a global_stride, which only"),
    ],
)
def test_a_wrong_attention_is_refused_when_the_config_is_read(attention, message):
    with pytest.raises(ValueError, match=message):
        EchoConfig(**SIZES, attention=attention)


def test_maps_are_one_for_each_layer(model):
    """In their places, focused or not."""
    model.set_attn_implementation("eager")
    features, mask, ids = batch()
    with torch.no_grad():
        output = model(features, mask, ids, output_attentions=True)
        silent = model(features, mask, ids)
    torch.testing.assert_close(output.logits, silent.logits, rtol=0, atol=1e-5)
    assert silent.encoder_attentions is None
    for stack, maps in (
        (model.model.encoder, output.encoder_attentions),
        (model.model.decoder, output.decoder_attentions),
    ):
        assert len(maps) == len(stack.layers) == 2
        for heard in maps:
            torch.testing.assert_close(heard.sum(-1), torch.ones(heard.shape[:-1]))
    # The first layer's, from its input.
    layer = model.model.decoder.layers[0]
    with torch.no_grad():
        x = model.model.decoder.embed_tokens(ids) + model.model.decoder.embed_positions(ids)
        expected = attention_maps(layer.self_attn, layer.self_attn_layer_norm(x), causal=True)
    torch.testing.assert_close(output.decoder_attentions[0], expected.overall, rtol=0, atol=1e-5)
    assert len(output.cross_attentions) == 2


def test_a_static_cache_works_in_plain_decoders_and_is_refused_in_focused_ones(model):
    features, mask, _ = batch()
    options = {"max_length": 16, "num_beams": 2}
    focused = any(isinstance(m, FocusedAttention) for m in model.model.decoder.modules())
    if focused:
        with pytest.raises(ValueError, match="focused attention needs a dynamic cache, not a Stat"):
            model.generate(features, attention_mask=mask, cache_implementation="static", **options)
    else:
        found = [
            model.generate(features, attention_mask=mask, cache_implementation=cache, **options)
            for cache in ("static", None)
        ]
        assert torch.equal(*found)


@pytest.mark.parametrize("part", ["model", "decoder"])
def test_arguments_may_stand_in_whispers_places(part):
    torch.manual_seed(0)
    whisper = WhisperForConditionalGeneration(WhisperConfig(**SIZES)).eval()
    echo = EchoForConditionalGeneration(EchoConfig(**SIZES, attention=PLAIN)).eval()
    echo.load_state_dict(whisper.state_dict())
    features, _, ids = batch(longest=400)
    real = torch.ones_like(ids)
    real[0, 7:] = 0
    found = []
    with torch.no_grad():
        for model in (whisper, echo):
            if part == "model":
                output = model(features, None, ids, real)
            else:
                hidden = torch.ones(2, 5, 48)
                output = model.model.decoder(ids[:, :4], real[:, :4], hidden)
                output = model.model.decoder(ids[:, 4:], real, hidden, output.past_key_values)
            found.append(output[0])
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["plain", "adaptive"])
def test_a_cache_goes_by_the_names_of_all_versions_of_transformers(attention):
    model = EchoForConditionalGeneration(EchoConfig(**SIZES, attention={"decoder": attention}))
    decoder, ids, hidden = model.eval().model.decoder, batch(longest=400)[2], torch.ones(2, 5, 48)
    with torch.no_grad():
        whole = decoder(ids, encoder_hidden_states=hidden)[0]
        for name in ("cache", "past_key_values"):
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            decoder(ids[:, :4], encoder_hidden_states=hidden, **{name: cache})
            last = decoder(ids[:, 4:], encoder_hidden_states=hidden, **{name: cache})[0]
            torch.testing.assert_close(last, whole[:, 4:], rtol=0, atol=1e-5)


def test_too_many_frames_are_refused():
    model = EchoForConditionalGeneration(EchoConfig(**SIZES))
    with pytest.raises(ValueError, match="401 frames of features are more than"):
        model.model.encoder(torch.randn(1, 80, 401))
