"""Makes a model ready for training, before processes share it."""

import os
import shutil
import warnings
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

from echo.attention.base import FocusedAttention
from echo.config import RunConfig
from echo.data.augment import WaveformAugment
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes, accelerate_set_up
from echo.support.errors import ConfigError
from echo.train.lora import add_adapters
from echo.train.losses.registry import reads_decoder
from echo.train.optimiser import freeze
from echo.train.sharding import check_strategy

CPU_COMPILERS = ("g++", "clang++", "cl")  # of which torch needs one, or what CXX names


def new_accelerator(config: RunConfig, model: EchoForConditionalGeneration) -> Accelerator:
    """Returns what trains a model in the processes that the launcher started. All that changes
    numbers is told to it: what is left out accelerate takes from the environment."""
    # Weights may go without a gradient, for which DDP would wait unless told: those that predict a
    # span which is not learned, and a decoder's last ones where only its attention has a loss.
    has_unused = config.ctc_weight == 1 or any(
        isinstance(m, FocusedAttention) and not m.learns_span for m in model.modules()
    )
    unused = DistributedDataParallelKwargs(find_unused_parameters=has_unused)
    precision = config.train.precision
    if precision == "auto":
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16" if bf16 else "fp32"
    mixed = {"fp32": "no", "bf16": "bf16"}[precision]  # accelerate's name
    state = AcceleratorState._shared_state
    if state and state["_mixed_precision"] != mixed:  # of an earlier run of this program
        AcceleratorState._reset_state()
    with accelerate_set_up():
        return Accelerator(
            mixed_precision=mixed,
            dynamo_backend="no",  # `train.compile` compiles layers
            # Gradients are accumulated by `TrainStep`. As a number, the environment would win.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[unused],
        )


def prepare(
    model: EchoForConditionalGeneration,
    config: RunConfig,
    accelerator: Accelerator,
    processes: Processes,
) -> None:
    """Freezes, adapts and compiles a model, in place; ConfigError if that cannot be."""
    # A loaded weight lies where it lay in its file. Kernels round differently for differently
    # aligned memory, so a resumed run would drift from the unbroken one.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    # Whisper's sinusoids are fixed; loading a checkpoint makes them trainable.
    model.model.encoder.embed_positions.requires_grad_(False)
    with processes.together():
        check_strategy(accelerator, config)
        WaveformAugment(config.data.augment)  # whose folders must exist before the run's does
        if config.lora:
            add_adapters(model, config.lora)
        freeze(model, config.train.freeze)
        if model.config.ctc and config.ctc_weight == 0:
            freeze(model, ["ctc_head"])
        if not reads_decoder(config):
            freeze(model, ["decoder", "proj_out"])
        if config.train.compile:
            compile_layers(model, accelerator.device)
    if config.train.gradient_checkpointing:
        # Not reentrant, so that losses on what hooks remember within a layer have gradients too. By
        # the name that every supported version of transformers has.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})


def compile_layers(model: EchoForConditionalGeneration, device: torch.device) -> None:
    """Makes the first batches compile the model's layers, for any number and length of recordings.

    Layers rather than the model, because equal ones share what is compiled, and what hooks remember
    of a layer stays theirs.
    """
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else CPU_COMPILERS
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"train.compile needs a C++ compiler ({' or '.join(compilers)}), and none is installed"
        )
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.compile(dynamic=True)


def not_compiled() -> AbstractContextManager[None]:
    """Within, compiled layers run as they are written: decoding has other shapes at each token,
    each of which would be compiled anew."""
    return torch.compiler.set_stance("force_eager")
