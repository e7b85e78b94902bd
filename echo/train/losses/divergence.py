"""How far the trained model's distribution over the next token is from another model's."""

import torch
import torch.nn.functional as F

from echo.data.batch import IGNORED, Batch
from echo.model.model import EchoForConditionalGeneration, EncoderOutput
from echo.train.losses.base import Setup, TokenLoss
from echo.train.losses.chunks import TokenSum


class Divergence(TokenLoss):
    """The KL divergence of the trained model's distribution over the next token from that of a
    frozen model, which hears the same batch.

    At a temperature, both are of logits divided by it, and the divergence is multiplied by its
    square, so that the size of the gradients stays the same (Hinton et al. 2015, arXiv 1503.02531).
    """

    shares_encoder = False  # whether the trained model's encoder hears for the frozen one

    def __init__(
        self, setup: Setup, model: EchoForConditionalGeneration, temperature: float = 1.0
    ) -> None:
        super().__init__(setup)
        self.temperature = temperature
        self.accelerator = setup.accelerator
        self.model = model.eval().requires_grad_(False).to(self.accelerator.device)
        # Aligned alike in a new run and a resumed one, as the trained model's weights are.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()

    def of_batch(self, batch: Batch, encoded: torch.Tensor | None) -> TokenSum:
        """Returns what sums up KL(frozen || trained)."""
        outputs = EncoderOutput(last_hidden_state=encoded) if self.shares_encoder else None
        with torch.no_grad(), self.accelerator.autocast():
            heard = self.model.model(
                batch.input_features,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
                encoder_outputs=outputs,
                use_cache=False,
            )
        hidden = heard.last_hidden_state.flatten(0, 1)

        def summed(logits: torch.Tensor, labels: torch.Tensor, part: slice) -> torch.Tensor:
            with torch.no_grad(), self.accelerator.autocast():
                frozen = self.model.proj_out(hidden[part])
            divergence = F.kl_div(
                (logits.float() / self.temperature).log_softmax(-1),
                (frozen.float() / self.temperature).log_softmax(-1),
                reduction="none",
                log_target=True,
            ).sum(-1)
            return self.temperature**2 * (divergence * (labels != IGNORED)).sum()

        return summed
