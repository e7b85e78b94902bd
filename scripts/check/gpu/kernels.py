"""Whether what is computed is right: kernels, compiled graphs, half precision."""

from typing import Any

import torch
from models import echo, inputs, size_here
from rows import FailedError, Place, check, close

from echo.attention.flex import local_attention_flex
from echo.attention.local import block_band
from echo.attention.windows import AdaptiveWindow, HardWindow, Window

LENGTHS = (1, 17, 127, 128, 129, 750, 1500, 3000)
RULES = {"soft": AdaptiveWindow(32, 8, False), "hard": HardWindow(32, 32, 128, False)}


def drawn(frames: int, rule: Any, spans: int, biased: bool, device: torch.device) -> tuple:
    """Query, key and value, and a window whose second utterance is shorter. On the CPU, where
    flex_attention has no backward, they take no gradient."""
    learns = device.type == "cuda"

    def new(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, requires_grad=learns)

    query, key, value = (new(2, 4, frames, 64) for _ in range(3))
    soft = isinstance(rule, AdaptiveWindow)
    span = torch.rand(2, spans, 1, device=device, requires_grad=learns and soft)
    lengths = torch.tensor([frames, max(1, 2 * frames // 3)], device=device)
    valid = torch.arange(frames, device=device) < lengths[:, None]
    relative = new(4, rule.left + 1 + rule.right) if biased else None
    return query / 8, key, value, Window(rule, span, valid, lengths, relative)


@check(("soft", 1, False), ("soft", 4, True), ("hard", 1, False))
def flex_equals_blocks(place: Place, rule: str, spans: int, biased: bool) -> dict[str, Any]:
    """Values and, on CUDA, gradients: the worst over many lengths."""
    torch._dynamo.reset()  # which gives up compiling after a number of rules and lengths
    errors, gradient_errors = [], []
    for frames in (17, 129) if place.quick else LENGTHS:
        torch.manual_seed(frames)
        query, key, value, window = drawn(frames, RULES[rule], spans, biased, place.device)
        seen = window.valid[:, None, :, None]
        wanted = block_band(key, value, window).attend(query) * seen
        found = local_attention_flex(query, key, value, window) * seen
        errors.append(close(found, wanted, 1e-3, f"the output of {frames} frames"))
        if place.device.type != "cuda":
            continue
        given = {"query": query, "key": key, "value": value}
        given |= {"span": window.span} if rule == "soft" else {}
        given |= {"bias": window.relative_bias} if biased else {}
        pair = [torch.autograd.grad(x.sin().sum(), list(given.values())) for x in (found, wanted)]
        for name, *gradients in zip(given, *pair, strict=True):
            what = f"the gradient of the {name} at {frames} frames"
            gradient_errors.append(close(*gradients, 1e-2, what))
    return {"error": max(errors), "gradient_error": max(gradient_errors, default=None)}


@check(("plain",), ("adaptive",), ("hybrid",))
def compiled_equals_eager(place: Place, form: str) -> dict[str, Any]:
    """The encoder as one graph, its output and gradients."""
    torch._dynamo.reset()
    encoder = echo(size_here(place), form).model.encoder.to(place.device).eval()
    backend = "inductor" if place.device.type == "cuda" else "aot_eager"
    given = inputs(2, 1.5 if place.quick else 12, place.device)
    found = []
    for run in (encoder, torch.compile(encoder, fullgraph=True, backend=backend)):
        output = run(given["input_features"], attention_mask=given["attention_mask"])[0]
        output.square().mean().backward()
        found.append((output.detach(), encoder.conv1.weight.grad.clone()))
        encoder.zero_grad()
    (wanted, wanted_gradient), (output, gradient) = found
    return {
        "error": close(output, wanted, 1e-3, "the output"),
        "gradient_error": close(gradient, wanted_gradient, 1e-2, "a gradient"),
    }


@check(
    *(
        (form, dtype)
        for form in ("plain", "adaptive", "hybrid")
        for dtype in (torch.bfloat16, torch.float16)
    )
)
def half_precision_is_near_float32(place: Place, form: str, dtype: torch.dtype) -> dict[str, Any]:
    """Logits of a whole model in half precision."""
    model = echo(size_here(place), form, form).to(place.device).eval()
    given = inputs(2, 1.5 if place.quick else 12, place.device)
    del given["labels"]
    with torch.no_grad():
        wanted = model(**given).logits
        model, given["input_features"] = model.to(dtype), given["input_features"].to(dtype)
        found = model(**given).logits
    most = 0.05 if dtype == torch.bfloat16 else 0.01
    return {"error": close(found, wanted, most, "the logits")}


@check(("hybrid",), ("scaled",), ("focus",), ("adaptive",))
def under_autocast_local_branches_compute_in_half_precision(
    place: Place, form: str
) -> dict[str, Any]:
    block: Any = echo("quick", form).model.encoder.layers[0].self_attn.to(place.device)
    x = torch.randn(2, 50, 32, device=place.device)
    with torch.autocast(place.device.type, torch.bfloat16):
        branches = block.branches(x)
    for name in ("local_query", "local_key", "local_out"):
        dtype = getattr(branches, name).dtype
        if dtype != torch.bfloat16:
            raise FailedError(f"{name} is {dtype}")
    return {}
