"""A loss that keeps fine-tuning near the model that it starts from, so that less is forgotten: as
learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), over the training recordings."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from echo.data.batch import IGNORED, Batch
from echo.model.model import EchoForConditionalGeneration


class AnchorLoss:
    """KL divergence of the trained model's distribution over the next token from that of a frozen
    copy of the starting model, which hears the same batch."""

    def __init__(self, start: EchoForConditionalGeneration, accelerator: Accelerator) -> None:
        """
        Args:
            start: the model before training; it is kept, in evaluation mode.
        """
        self.model = start.eval().requires_grad_(False).to(accelerator.device)
        # Aligned alike in a new run and a resumed one, as the trained model's weights are.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()
        self.accelerator = accelerator

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """KL(start || trained), summed over the batch's target tokens.

        Args:
            logits: (B, tokens, vocabulary) of the trained model.
        """
        with torch.no_grad(), self.accelerator.autocast():
            start = self.model(
                batch.input_features,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
                use_cache=False,
            ).logits
        real = batch.labels != IGNORED
        return F.kl_div(
            logits[real].float().log_softmax(-1),
            start[real].float().log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
