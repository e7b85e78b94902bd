"""Time and memory of the attention's forms, beside Whisper's and beside a loop over windows.

Encoder layers, whole encoders and local branches, forward alone and with the backward pass, at
the sizes of Whisper tiny and base, in one process and in turn, so that a noisy machine disturbs
all alike. Ratios are medians of the ratios within a turn.

    python scripts/bench/attention.py --out results/attention
    python scripts/bench/attention.py --parts decoder local --sizes tiny --frames 1500
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from transformers import WhisperConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from turns import Turns, header, line, median_ratio, now

from echo.attention.local import block_sizes, local_attention
from echo.attention.windows import AdaptiveWindow, HardWindow, Window
from echo.model.config import EchoConfig
from echo.model.model import EchoEncoder, EchoForConditionalGeneration
from echo.support.memory import PeakMemory

SIZES = {"tiny": (384, 6, 4), "base": (512, 8, 6)}  # dimensions, heads, layers
FORMS: dict[str, dict[str, Any]] = {
    "plain": {"form": "plain"},
    "hybrid": {"form": "hybrid"},
    "scaled": {"form": "scaled"},
    "focus": {"form": "focus"},
    "focus, refiner": {"form": "focus", "refiner": True},
    "adaptive": {"form": "adaptive"},
    "adaptive, stride 4": {"form": "adaptive", "global_stride": 4},
}
WHISPER = "transformers"  # what all else is measured against
Row = dict[str, Any]


def config(size: str, frames: int, kind: type[WhisperConfig] = WhisperConfig, **more: Any) -> Any:
    dims, heads, layers = SIZES[size]
    return kind(  # type: ignore[call-arg]
        d_model=dims,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * dims,
        decoder_ffn_dim=4 * dims,
        max_source_positions=frames,
        attn_implementation="sdpa",
        **more,
    )


def compare(
    contenders: dict[str, Callable[[], torch.Tensor]], seconds: float, device: torch.device
) -> dict[str, Row]:
    """Runs all in turn until the time is up, three turns at the least, after one that warms up.

    Returns:
        By contender, seconds of each turn: `forward` and `both` (with the backward pass, where
        there is a gradient); and `peak_bytes`, what both took at their peak.
    """
    turns = Turns()
    rows: dict[str, Row] = {name: {"forward": []} for name in contenders}
    for name, run in contenders.items():
        with PeakMemory(device) as peak:
            step(run)
        rows[name]["peak_bytes"] = peak.added
    started = now()
    while turns.taken < 3 or now() - started < seconds:
        found = turns.take({name: partial(step, run) for name, run in contenders.items()})
        for name, forward in found.items():
            rows[name]["forward"].append(forward)
    for name, row in rows.items():
        row["both"] = turns.seconds[name]
    return rows


def step(run: Callable[[], torch.Tensor]) -> float:
    """Runs forward, and backward if there is a gradient; returns the seconds of forward."""
    started = now()
    output = run()
    forward = now() - started
    if output.requires_grad:
        output.sum().backward()
    return forward


def stacks(size: str, frames: int, forms: list[str], device: torch.device) -> dict[str, Any]:
    """Whisper's encoder, and one of each form."""
    found: dict[str, Any] = {WHISPER: WhisperEncoder(config(size, frames)).to(device)}  # type: ignore[arg-type]
    for name in forms:
        attention = {"encoder": FORMS[name]}
        found[name] = EchoEncoder(config(size, frames, EchoConfig, attention=attention)).to(device)  # type: ignore[arg-type]
    return found


def layers(size: str, frames: int, forms: list[str], device: torch.device) -> dict[str, Callable]:
    """One encoder layer of each form."""
    x = torch.randn(1, frames, SIZES[size][0], device=device, requires_grad=True)
    found = stacks(size, frames, forms, device).items()
    return {name: partial(run_layer, stack.layers[0], x) for name, stack in found}


def run_layer(layer: Any, x: torch.Tensor) -> torch.Tensor:
    output = layer(x, None)
    return output[0] if isinstance(output, tuple) else output


def encoders(size: str, frames: int, forms: list[str], device: torch.device) -> dict[str, Callable]:
    """The whole encoder of each form, from log-mel features."""
    features = torch.randn(1, 80, 2 * frames, device=device)
    found = stacks(size, frames, forms, device).items()
    return {name: partial(run_encoder, stack, features) for name, stack in found}


def run_encoder(encoder: Any, features: torch.Tensor) -> torch.Tensor:
    return encoder(features).last_hidden_state


def local_branches(
    size: str, frames: int, forms: list[str], device: torch.device
) -> dict[str, Callable]:
    """The local branch of max_span 32 at a span scale of one half: this project's, a bare SDPA
    over the same chunks, and loops: over positions, each with its own soft window, and over hard
    windows."""
    dims, heads, _ = SIZES[size]
    d = dims // heads

    def new(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, d, device=device, requires_grad=True)

    query, key, value = (new(1, frames, heads).transpose(1, 2) for _ in range(3))
    span = torch.full((1, 1, 1), 0.5, device=device, requires_grad=True)
    lengths = torch.tensor([frames], device=device)
    soft, hard = AdaptiveWindow(32, 8, causal=False), HardWindow(32, 32, 128, causal=False)
    chunk, width = block_sizes(soft)
    chunks = -(-frames // chunk)
    queries, keys, values = (new(heads * chunks, n) for n in (chunk, width, width))
    return {
        "chunked, soft windows": lambda: local_attention(query, key, value, Window(soft, span)),
        "chunked, hard windows": lambda: local_attention(
            query, key, value, Window(hard, span, lengths=lengths)
        ),
        "SDPA over the same chunks": lambda: F.scaled_dot_product_attention(
            queries[:, None], keys[:, None], values[:, None]
        ),
        "loop over soft windows": lambda: loop_over_positions(query, key, value, soft, span),
        "loop over hard windows": lambda: loop_over_windows(query, key, value, hard, 0.5),
    }


def loop_over_positions(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: AdaptiveWindow,
    span: torch.Tensor,
) -> torch.Tensor:
    """The soft window as it is defined, one position after the other."""
    T, found = query.shape[2], []
    for t in range(T):
        near = slice(max(0, t - rule.left), min(T, t + rule.right + 1))
        positions = torch.arange(near.start, near.stop, device=query.device)
        m = rule.weights(torch.full_like(positions, t), positions, span, None)
        weights = m * torch.exp(query[:, :, t, None] @ key[:, :, near].mT)[:, :, 0]
        weights = weights / weights.sum(-1, keepdim=True)
        found.append(weights[:, :, None] @ value[:, :, near])
    return torch.cat(found, dim=2)


def loop_over_windows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: HardWindow, span: float
) -> torch.Tensor:
    """Hard windows, one after the other."""
    T = query.shape[2]
    width, reach = max(1, int(rule.window * span)), max(1, int(rule.max_span * span))
    found = []
    for start in range(0, T, width):
        asked = slice(start, min(start + width, T))
        near = slice(max(0, start - reach + width), min(start + reach, T))
        extent = min(int(rule.max_span * span), asked.stop - start, near.stop - near.start)
        near = slice(near.start, near.start + extent)
        scores = query[:, :, asked] @ key[:, :, near].mT
        found.append(scores.softmax(-1) @ value[:, :, near])
    return torch.cat(found, dim=2)


def decoder_steps(
    size: str, frames: int, forms: list[str], device: torch.device
) -> dict[str, Callable]:
    """One step of a decoder whose every layer has the form, after 32 tokens, with a cache, and
    the choice of a token from Whisper's vocabulary."""
    encoded = BaseModelOutput(torch.randn(1, frames, SIZES[size][0], device=device))
    start = torch.randint(100, (1, 32), device=device)
    found = {}
    for name in forms:
        if FORMS[name].get("global_stride"):
            continue
        attention = {"encoder": "plain", "decoder": FORMS[name]}
        model = EchoForConditionalGeneration(
            config(size, frames, EchoConfig, attention=attention)
        ).to(device)  # type: ignore[arg-type]
        model.eval()

        def step(model: Any = model, cache: list[Any] = []) -> torch.Tensor:  # noqa: B006
            tokens = start[:, :1]
            if not cache or cache[0].get_seq_length() > 96:
                cache[:], tokens = [None], start
            with torch.no_grad():
                output = model(
                    encoder_outputs=encoded,
                    decoder_input_ids=tokens,
                    past_key_values=cache[0],
                    use_cache=True,
                )
            cache[0] = output.past_key_values
            return output.logits

        found[name] = step
    return found


PARTS = {
    "layer": layers,
    "encoder": encoders,
    "local": local_branches,
    "decoder": decoder_steps,
}
BASELINES = {"local": "SDPA over the same chunks", "decoder": "plain"}


def measure(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    rows = []
    for part in arguments.parts:
        baseline = BASELINES.get(part, WHISPER)
        for size in arguments.sizes:
            for frames in arguments.frames:
                torch.manual_seed(0)
                contenders = PARTS[part](size, frames, arguments.forms, device)
                found = compare(contenders, arguments.seconds, device)
                for name, own in found.items():
                    row = {
                        "part": part,
                        "size": size,
                        "frames": frames,
                        "name": name,
                        "forward_ms": 1e3 * statistics.median(own["forward"]),
                        "both_ms": 1e3 * statistics.median(own["both"]),
                        "forward_ratio": median_ratio(own["forward"], found[baseline]["forward"]),
                        "both_ratio": median_ratio(own["both"], found[baseline]["both"]),
                        "peak_mb": own["peak_bytes"] / 1e6,
                        "turns": len(own["both"]),
                    }
                    rows.append(row)
                    print(format_line(row), flush=True)
    return rows


HEADER = header(
    ["part", "size", "frames", "form"],
    ["forward, ms", "with backward, ms", "ratio, forward", "ratio, both", "peak, MB"],
)


def format_line(row: Row) -> str:
    return line(*(value for key, value in row.items() if key != "turns"))


def draw(rows: list[Row], path: Path) -> None:
    """Seconds with the backward pass, and memory, against frames, one row of plots a part."""
    kinds = sorted({(row["part"], row["size"]) for row in rows})
    figure = Figure((11, 4 * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), 2, squeeze=False)
    labels = {"both_ms": "ms, forward and backward", "peak_mb": "peak MB"}
    for (part, size), pair in zip(kinds, axes, strict=True):
        here = [row for row in rows if (row["part"], row["size"]) == (part, size)]
        for axis, (key, label) in zip(pair, labels.items(), strict=True):
            for name in dict.fromkeys(row["name"] for row in here):
                own = [row for row in here if row["name"] == name]
                frames = [row["frames"] for row in own]
                axis.loglog(frames, [row[key] for row in own], marker="o", label=name)
            axis.set(xlabel="frames", ylabel=label, title=f"{part}, {size}")
            axis.grid(alpha=0.3, which="both")
        pair[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["layer", "encoder", "local"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--frames", nargs="+", type=int, default=[500, 1500, 3000, 6000, 12000])
    parser.add_argument("--seconds", type=float, default=5, help="for each comparison, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="a folder for the table, the plot and JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(HEADER)
    rows = measure(arguments, device)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "attention.json").write_text(json.dumps(rows, indent=1) + "\n")
        table = "\n".join([HEADER, *map(format_line, rows)])
        (arguments.out / "attention.md").write_text(table + "\n")
        draw(rows, arguments.out / "attention.png")


if __name__ == "__main__":
    main()
