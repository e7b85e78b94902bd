"""The decoder's cross-entropy, and CTC on the encoder (Graves et al. 2006), which it is trained
jointly with (Watanabe et al. 2017, "Hybrid CTC/attention architecture for end-to-end speech
recognition")."""

import torch
import torch.nn.functional as F

from echo.config import RunConfig
from echo.data.batch import IGNORED, Batch
from echo.data.tokenizer import ctc_tokenizer, special_ids
from echo.model.geometry import encoder_lengths
from echo.model.model import EchoOutput
from echo.train.losses.base import Loss, Setup, TokenLoss
from echo.train.losses.chunks import TokenSum


class DecoderLoss(TokenLoss):
    """The cross-entropy of the decoder's next tokens, with smoothed labels; 0 where its weight is
    0."""

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
        if self.weight == 0:
            return torch.zeros((), device=batch.labels.device)
        return super().__call__(output, batch)

    def of_batch(self, batch: Batch, encoded: torch.Tensor | None) -> TokenSum:
        return lambda logits, labels, _: F.cross_entropy(
            logits.float(),
            labels,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )


class CTCLoss(Loss):
    """The CTC loss of the transcripts' text; 0 where its weight is 0."""

    name = "ctc_loss"
    setting = "ctc_weight"
    is_joint = True
    reads_decoder = False
    reads_logits = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        tokenizer = ctc_tokenizer(setup.model.config, setup.tokenizer)
        self.special_ids = special_ids(tokenizer).to(setup.accelerator.device)
        self.blank = tokenizer.pad_token_id

    @classmethod
    def weight_in(cls, config: RunConfig) -> float:
        return config.ctc_weight

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        if self.weight == 0:
            return torch.zeros((), device=batch.labels.device)
        assert output.ctc_logits is not None
        labels = batch.labels if batch.ctc_labels is None else batch.ctc_labels
        # An utterance of whose text a window has only the beginning would be taught as blanks.
        mask = batch.attention_mask if batch.told_mask is None else batch.told_mask
        return ctc_loss(output.ctc_logits, labels, mask, self.special_ids, self.blank)


def ctc_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    special_ids: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """Returns the sum of the utterances' CTC losses; an utterance too short for its transcript has
    0.

    Args:
        logits: (B, T, V).
        labels: (B, tokens), IGNORED at padding.
        attention_mask: (B, frames) over the features.
        special_ids: tokens that are not part of the text; CTC does not emit them.
    """
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
    """Returns which labels (B, tokens) are text: neither padding nor special tokens."""
    return (labels != IGNORED) & ~torch.isin(labels, special_ids)
