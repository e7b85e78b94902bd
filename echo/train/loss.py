"""The training loss: the decoder's cross-entropy, and CTC on the encoder.

Losses are sums, so that a step of several batches can be normalised by all of its tokens at once.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from echo.data.batch import IGNORED
from echo.model.geometry import encoder_lengths
from echo.model.model import EchoOutput


@dataclass(frozen=True)
class LossSums:
    """Scalars: sums over a batch's target tokens. `total` is to be minimised."""

    total: torch.Tensor
    decoder: torch.Tensor
    ctc: torch.Tensor


def joint_loss(
    output: EchoOutput,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    ctc_weight: float,
    label_smoothing: float,
    special_ids: torch.Tensor,
    blank: int,
) -> LossSums:
    """(1 - ctc_weight) · cross-entropy + ctc_weight · CTC.

    Args:
        output: the model's; it must have CTC logits unless `ctc_weight` is 0.
        labels: (B, tokens), IGNORED at padding.
        attention_mask: (B, frames) over the features.
        special_ids: tokens that are not part of the text; CTC does not emit them.
        blank: CTC's blank token.
    """
    assert output.logits is not None
    # Flattened: with the vocabulary as the second of three dimensions it takes four times as long.
    decoder = F.cross_entropy(
        output.logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    if ctc_weight == 0:
        return LossSums(decoder, decoder.detach(), torch.zeros_like(decoder))
    assert output.ctc_logits is not None
    ctc = ctc_loss(output.ctc_logits, labels, attention_mask, special_ids, blank)
    total = (1 - ctc_weight) * decoder + ctc_weight * ctc
    return LossSums(total, decoder.detach(), ctc.detach())


def ctc_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    special_ids: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """The sum of the utterances' CTC losses; an utterance too short for its transcript has 0."""
    is_text = text_mask(labels, special_ids)
    # Moves each row's text tokens to the front.
    order = is_text.int().sort(dim=1, descending=True, stable=True).indices
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        labels.gather(1, order).clamp(min=0),
        input_lengths=encoder_lengths(attention_mask),
        target_lengths=is_text.sum(1),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )


def text_mask(labels: torch.Tensor, special_ids: torch.Tensor) -> torch.Tensor:
    """Which labels (B, tokens) are text: neither padding nor special tokens."""
    return (labels != IGNORED) & ~torch.isin(labels, special_ids)
