"""The decoder's cross-entropy."""

import torch
import torch.nn.functional as F

from echo.config import RunConfig
from echo.data.batch import IGNORED, Batch
from echo.model.model import EchoOutput
from echo.train.losses.base import Loss, Setup


class DecoderLoss(Loss):
    """The cross-entropy of the decoder's next tokens, with smoothed labels."""

    name = "decoder_loss"
    setting = "ctc_weight"
    is_joint = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.label_smoothing = setup.config.loss.label_smoothing

    @classmethod
    def weight_in(cls, config: RunConfig) -> float:
        return 1 - config.ctc_weight

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        assert output.logits is not None
        # Flattened: with the vocabulary as the second of three dimensions it takes four times as
        # long.
        return F.cross_entropy(
            output.logits.float().flatten(0, 1),
            batch.labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
