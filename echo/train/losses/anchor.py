"""A loss that keeps fine-tuning near the model that it starts from, so that less is forgotten: as
learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), over the training recordings."""

import torch
import torch.nn.functional as F

from echo.config import RunConfig
from echo.data.batch import IGNORED, Batch
from echo.model.model import EchoOutput
from echo.train.losses.base import Loss, Setup


class AnchorLoss(Loss):
    """The KL divergence of the trained model's distribution over the next token from that of a
    frozen copy of the starting model, which hears the same batch."""

    name = "anchor_kl"
    setting = "anchor_kl"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        assert setup.start is not None
        self.accelerator = setup.accelerator
        self.model = setup.start.eval().requires_grad_(False).to(self.accelerator.device)
        # Aligned alike in a new run and a resumed one, as the trained model's weights are.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()

    @classmethod
    def problem(cls, config: RunConfig) -> str | None:
        if config.init is not None:
            return None
        return "loss.anchor_kl needs init: it keeps what a checkpoint knows"

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        """Returns KL(start || trained), summed over the batch's target tokens."""
        assert output.logits is not None
        with torch.no_grad(), self.accelerator.autocast():
            start = self.model(
                batch.input_features,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
                use_cache=False,
            ).logits
        real = batch.labels != IGNORED
        return F.kl_div(
            output.logits[real].float().log_softmax(-1),
            start[real].float().log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
