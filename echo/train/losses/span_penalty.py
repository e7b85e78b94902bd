"""A loss that keeps the spans of focused blocks short."""

import torch

from echo.attention.base import FocusedAttention
from echo.data.batch import IGNORED, Batch
from echo.model.hooks import CallRecorder
from echo.model.model import EchoOutput
from echo.support.errors import ConfigError
from echo.train.losses.base import Loss, Setup


class SpanPenalty(Loss):
    """The mean span scale of focused blocks."""

    name = "span_penalty"
    setting = "span_penalty"
    reads_logits = False
    is_for_fsdp = False
    calls: CallRecorder[str, torch.Tensor]  # the spans of blocks; see `FocusedAttention.forward`

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.blocks = {
            name: block
            for name, block in setup.model.named_modules()
            if isinstance(block, FocusedAttention)
        }
        if not any(block.learns_span for block in self.blocks.values()):
            raise ConfigError(
                "loss.span_penalty has no effect, because no block learns its span: leave it out"
            )
        self.calls = CallRecorder(self.blocks, lambda _block, _arguments, output: output[1])

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        """Returns the sum over target tokens of their utterance's mean span scale: the mean over
        blocks and heads, and in the decoder over the utterance's tokens. So it does not matter
        which utterances share a batch."""
        valid = batch.labels != IGNORED
        tokens = valid.sum(1)
        means = []
        for name, span in self.calls.kept.items():
            mean = span.float().mean(1)
            if self.blocks[name].causal:
                means.append((mean * valid).sum(1))
            else:
                means.append(mean[:, 0] * tokens)
        if not means:  # all layers were dropped
            return torch.zeros((), device=batch.labels.device)
        return torch.stack(means).mean(0).sum()
