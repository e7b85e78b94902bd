"""The batch with which a process takes part in a step where it has nothing to learn."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from echo.attention.focus import FocusAttention
from echo.config import RunConfig
from echo.model.config import EchoConfig
from echo.model.geometry import Limits
from echo.model.model import EchoForConditionalGeneration
from echo.support.settings import build
from echo.train.batches import silence
from echo.train.losses.base import Setup, TokenLoss
from echo.train.losses.registry import build_losses
from echo.train.step import TrainStep
from tests.model.test_model import ATTENTIONS, SIZES
from tests.train.test_step import TOKENIZER


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_silence_teaches_nothing(attention):
    """Gradients are 0, and a refiner learns nothing."""
    model = EchoForConditionalGeneration(EchoConfig(**SIZES, attention=attention, ctc=True))
    reader = SimpleNamespace(
        tokenizer=SimpleNamespace(pad_token_id=0), limits=Limits.of(model.config)
    )
    config = build(RunConfig, {"loss": {"ctc_weight": 0.3, "label_smoothing": 0.1}}, "test")
    step = TrainStep.__new__(TrainStep)  # without a run
    losses = build_losses(Setup(config, model, TOKENIZER, Accelerator()))
    vars(step).update(
        state=SimpleNamespace(model=model.train()),
        losses=losses,
        encoder_only=False,
        by_token=[loss for loss in losses if isinstance(loss, TokenLoss)],
        accelerator=SimpleNamespace(backward=torch.Tensor.backward, num_processes=2),
    )
    assert (step.backward(silence(reader, []), torch.tensor(5)) == 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or (parameter.grad == 0).all(), name
    for block in model.modules():
        if isinstance(block, FocusAttention) and block.refiner is not None:
            assert (block.refiner.values == 0).all()
