"""What holds of every form: deaf to padding, neighbours and the future, finite, and compilable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from echo.attention.focus import mean_within
from echo.attention.forms import FORMS, read_settings
from echo.attention.maps import attention_maps, entropy
from echo.model.config import EchoConfig
from echo.model.model import EchoEncoder

DIMS, HEADS = 24, 3
HARD = {"max_span": 10, "window": 7}
AT_OFFSETS = {
    "form": "adaptive",
    "max_span": 10,
    "ramp": 4,
    "local_input": "projected",
    "local_heads": 8,
    "first_offset": 5,
}
SETTINGS = {
    "hybrid": {"form": "hybrid", **HARD},
    "hybrid, sharper for longer": {"form": "hybrid", **HARD, "sharpen_longer": True},
    "scaled": {"form": "scaled", **HARD},
    "focus": {"form": "focus", **HARD},
    "focus, refined": {"form": "focus", **HARD, "refiner": True},
    "adaptive": {"form": "adaptive", "max_span": 10, "ramp": 4},
    "adaptive, per head": {
        "form": "adaptive",
        "max_span": 10,
        "ramp": 4,
        "span_per_head": True,
        "temperature": "learned",
    },
    "adaptive, projected": {"form": "adaptive", "max_span": 10, "local_input": "projected"},
    "adaptive, at offsets": AT_OFFSETS,
    "adaptive, by distance": {**AT_OFFSETS, "local_scores": "distance"},
    "convolution": {"form": "convolution", "max_span": 10, "ramp": 4},
    "convolution, of fixed reach": {"form": "convolution", "max_span": 10, "ramp": None},
    "convolution, shared": {"form": "convolution", "max_span": 10, "local_input": "shared"},
}
OWN_GAIN = ("adaptive", "convolution")  # forms that add the local branch with a gain
STRIDED = {
    f"{name}, strided": {**SETTINGS[name], "global_stride": 3, "max_global_keys": 9}
    for name in ("hybrid", "adaptive")
}
ENCODER = {**SETTINGS, **STRIDED}
MINUS = torch.finfo(torch.float32).min


def make_block(values, causal=False, dims=DIMS, heads=HEADS, seed=0):
    """A block whose local branch is awake and whose spans differ between utterances."""
    torch.manual_seed(seed)
    setting = read_settings(values, "attention")
    block = FORMS[setting.form](setting, dims, heads, causal).eval()
    with torch.no_grad():
        if setting.form in OWN_GAIN:
            for name in block.initial_weights():
                block.get_parameter(name).normal_()
        else:
            torch.nn.init.normal_(block.projection.weight, std=dims**-0.5)
        if block.span_predictor is not None:
            torch.nn.init.normal_(block.span_predictor.linear.weight, std=3)
    return block


def padding_mask(lengths, frames):
    seen = torch.arange(frames) < torch.tensor(lengths)[:, None]
    return torch.zeros(seen.shape).masked_fill(~seen, MINUS)[:, None, None]


@pytest.mark.parametrize("values", ENCODER.values(), ids=ENCODER.keys())
@settings(max_examples=12, deadline=None)
@given(
    length=st.integers(1, 60),
    more=st.integers(0, 40),
    other=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_an_utterance_gets_what_it_would_get_alone(values, length, more, other, seed):
    """At any length, shorter or longer than a window, and down to one valid frame."""
    block = make_block(values, seed=seed)
    frames = max(length, other) + more
    x = torch.randn(2, frames, DIMS)
    with torch.no_grad():
        together, spans = block(x, padding_mask([length, min(other, frames)], frames))
        alone, span = block(x[:1, :length])
    torch.testing.assert_close(together[:1, :length], alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(spans[:1], span, rtol=0, atol=1e-5)


def test_rounds_do_not_amplify_what_padding_rounds_differently():
    for seed in range(20):
        block = make_block(SETTINGS["focus"], seed=seed)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            torch.nn.init.normal_(getattr(block.global_attn, part).weight, std=0.2)
        torch.nn.init.normal_(block.ln_local.weight, std=0.8)  # with which rounds amplify most
        for length, more in [(23, 17), (60, 40), (60, 400)]:
            x = torch.randn(2, length + more, DIMS)
            mask = padding_mask([length, length + more], length + more)
            with torch.no_grad():
                together = block.branches(x, mask).local_out[:1, :length]
                alone = block.branches(x[:1, :length]).local_out
            torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_padding_is_in_no_window_of_frames():
    """Whether a window goes on is decided by its own frames, also where padding cuts it short."""
    block = make_block(SETTINGS["focus"])
    span = torch.tensor([[[0.6]], [[0.9]]])  # windows of 4 and 6 frames
    found = block.windows_of(torch.zeros(2, HEADS, 20, 8), span, torch.tensor([13, 20]))
    assert found.tolist() == [
        [i // 4 if i < 13 else 20 for i in range(20)],
        [i // 6 for i in range(20)],
    ]


def test_a_window_may_be_one_frame_long():
    """It is never shorter, and its change is its own."""
    block = make_block(SETTINGS["focus"])
    span = torch.tensor([[[0.01]]])
    windows = block.windows_of(torch.zeros(1, HEADS, 5, 8), span, torch.tensor([5]))
    assert windows.tolist() == [[0, 1, 2, 3, 4]]
    change = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    assert torch.equal(mean_within(change, windows), change)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float])
@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS.keys())
@settings(max_examples=6, deadline=None)
@given(length=st.integers(1, 60), padding=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_decoders_sequence_may_begin_with_padding(values, dtype, length, padding, seed):
    block = make_block(values, causal=True, seed=seed)
    frames = padding + length
    x = torch.randn(2, frames, DIMS)
    first = torch.tensor([padding, 0])[:, None, None, None]
    seen = torch.ones(frames, frames, dtype=torch.bool).tril() & (torch.arange(frames) >= first)
    mask = seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, MINUS)
    with torch.no_grad():
        together, spans = block(x, mask)
        for row, start in ((0, padding), (1, 0)):
            alone, span = block(x[row : row + 1, start:])
            torch.testing.assert_close(together[row : row + 1, start:], alone, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(spans[row : row + 1, :, start:], span, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(together).all()


def test_a_row_of_padding_alone_is_finite_and_changes_no_other():
    """As where a process has nothing to do, and in a batch that is filled up."""
    for values in ENCODER.values():
        block = make_block(values).train()
        x = torch.randn(2, 30, DIMS, requires_grad=True)
        found, spans = block(x, padding_mask([30, 0], 30))
        assert torch.isfinite(found).all()
        assert torch.isfinite(spans).all()
        found.sum().backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS.keys())
@settings(max_examples=8, deadline=None)
@given(length=st.integers(1, 40), place=st.integers(0, 39), seed=st.integers(0, 99))
def test_a_decoder_does_not_see_the_future(values, length, place, seed):
    block = make_block(values, causal=True, seed=seed)
    x = torch.randn(1, length, DIMS)
    place = min(place, length - 1)
    changed = x.clone()
    changed[:, place:] = torch.randn(1, length - place, DIMS)
    with torch.no_grad():
        before, after = block(x)[0], block(changed)[0]
    torch.testing.assert_close(before[:, :place], after[:, :place], rtol=0, atol=1e-6)


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_finite_and_reach_the_spans_that_are_learned(values, causal):
    block = make_block(values, causal).train()
    x = torch.randn(2, 40, DIMS, requires_grad=True)
    mask = None if causal else padding_mask([40, 13], 40)
    block(x, mask)[0].square().mean().backward()
    assert torch.isfinite(x.grad).all()
    for name, parameter in block.named_parameters():
        if not name.startswith("span_predictor") or values["form"] in OWN_GAIN:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0 or name.endswith("k_proj.bias"), name
    if values["form"] not in OWN_GAIN:
        assert block.span_predictor.linear.weight.grad is None
        assert "does not learn" in type(block).__doc__ or "gets no gradient" in type(block).__doc__


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("values", ENCODER.values(), ids=ENCODER.keys())
def test_half_precision_does_not_overflow_on_long_input(values, dtype):
    block = make_block(values, dims=16, heads=2).to(dtype).train()
    x = (20 * torch.randn(1, 3000, 16)).to(dtype).requires_grad_()
    y, span = block(x)
    y.float().mean().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(span).all()


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("frames", [20, 120])
@pytest.mark.parametrize("grad", [True, False])
def test_products_are_in_autocasts_precision_but_for_rounds(values, frames, grad):
    """A round amplifies the errors of the last, so in half precision none would settle."""
    block = make_block(values)
    x = torch.randn(1, frames, DIMS)
    with torch.set_grad_enabled(grad), Products() as products:
        exact = block.branches(x).local_out
        assert set(products.dtypes) == {torch.float32}
        products.dtypes.clear()
        with torch.autocast("cpu", torch.bfloat16):
            found = block.branches(x).local_out
    expected = {torch.bfloat16, *([torch.float32] if values["form"] == "focus" else [])}
    assert set(products.dtypes) == expected
    error = (found - exact).abs().mean() / exact.abs().mean()
    assert error < 0.02


class Products(TorchDispatchMode):
    """Notes in which precision matrices are multiplied and attention is computed."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in ("aten::bmm", "aten::mm", "aten::addmm") or "dot_product" in str(
            func
        ):
            self.dtypes.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("values", ENCODER.values(), ids=ENCODER.keys())
def test_maps_are_the_weights_that_were_used(values):
    block = make_block(values)
    x, lengths = torch.randn(2, 50, DIMS), [50, 21]
    mask = padding_mask(lengths, 50)
    maps = attention_maps(block, x, mask)
    for row, length in enumerate(lengths):
        total = maps.local[row, :, :length].sum(-1)
        assert ((total - 1).abs() < 1e-5).logical_or(total == 0).all()
        assert (maps.local[row, :, :length, length:] == 0).all()
        torch.testing.assert_close(
            maps.overall[row].sum(-1), torch.ones(HEADS, 50), rtol=0, atol=1e-5
        )
    assert (entropy(maps.local) <= torch.log(torch.tensor(50.0))).all()
    if values["form"] in ("hybrid", "adaptive") and "local_input" not in values:
        branches = block.branches(x, mask)
        value = branches.local_key  # the hard forms' own value
        if values["form"] == "adaptive":
            _, _, value = block.project(x)
        local = (maps.local @ value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(local[1, :21], branches.local_out[1, :21], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["hybrid", "adaptive"])
def test_a_decoders_maps_are_the_weights_that_were_used(form):
    block = make_block(SETTINGS[form], causal=True)
    x = torch.randn(2, 50, DIMS)
    maps, branches = attention_maps(block, x), block.branches(x)
    for part in (maps.overall, maps.local):
        assert (part.triu(1) == 0).all()
    normalised = x if form == "adaptive" else block.ln_global(x)
    query, key, value = block.global_branch.project(normalised)
    local_value = value if form == "adaptive" else branches.local_key
    overall = (maps.overall @ value).transpose(1, 2).flatten(2)
    if form == "hybrid":
        overall = block.global_branch.out_proj(overall)
    torch.testing.assert_close(overall, branches.global_out, rtol=0, atol=1e-5)
    local = (maps.local @ local_value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(local, branches.local_out, rtol=0, atol=1e-5)
    # The last queries see what they see among all, as when a decoder runs with a cache.
    last = block.global_branch.weights(query[:, :, -7:], key, None, causal=True)
    torch.testing.assert_close(last, maps.overall[:, :, -7:])


@pytest.mark.parametrize("form", ["plain", "hybrid", "adaptive"])
@pytest.mark.parametrize("frames", [120, 700])
def test_the_encoder_compiles_as_one_graph(form, frames):
    torch._dynamo.reset()
    config = EchoConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        max_source_positions=400,
        attention={"encoder": form},
    )
    encoder = EchoEncoder(config).eval()
    features, mask = torch.randn(2, 80, frames), torch.ones(2, frames)
    mask[1, 90:] = 0
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    found, gradients = [], []
    for run in (encoder, compiled):
        output = run(features, attention_mask=mask).last_hidden_state * mask[:, ::2, None]
        output.sum().backward()
        found.append(output.detach())
        gradients.append(encoder.conv1.weight.grad.clone())
        encoder.zero_grad()
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
