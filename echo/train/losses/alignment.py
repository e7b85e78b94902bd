"""A loss that makes the decoder's cross-attention look where CTC hears each token.

A decoder trained from scratch makes most of its errors at the start of words, which it repeats or
skips, because it does not know where to look next. The CTC head learns this early, so its best
alignment guides half of the heads of each cross-attention (compare Tachibana et al. 2018,
"Efficiently trainable text-to-speech system based on deep convolutional networks with guided
attention").
"""

import torch

from echo.config import RunConfig
from echo.data.loading import Batch
from echo.evaluate.ctc_alignment import best_path
from echo.model.geometry import encoder_lengths
from echo.model.hooks import CallRecorder
from echo.model.model import EchoOutput
from echo.support.errors import ConfigError
from echo.train.losses.base import Loss, Setup
from echo.train.losses.joint import CTCLoss, text_mask

WIDTH = 2.0  # standard deviation around a token's centre, in encoder frames of 20 ms
LEAST_WEIGHT = 1e-6  # the loss is flat where attention near a token's centre is below this


class AlignmentLoss(Loss):
    """How little the guided heads of cross-attention look where CTC hears each token."""

    name = "alignment_loss"
    setting = "alignment_weight"
    reads_logits = False
    calls: CallRecorder[int, torch.Tensor]  # by layer, (B, guided heads, tokens, frames)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.model.config.ctc_vocabulary:
            raise ConfigError(
                "loss.alignment_weight needs a CTC head with the decoder's tokens, and the model's "
                "has its own: leave one of the two out"
            )
        self.ctc = CTCLoss(setup)
        layers = setup.model.model.decoder.layers
        self.calls = CallRecorder(
            {index: layer.encoder_attn for index, layer in enumerate(layers)},
            lambda block, arguments, _output: block.weights(
                **arguments, heads=max(1, block.num_heads // 2)
            ),
        )

    @classmethod
    def problem(cls, config: RunConfig) -> str | None:
        if config.ctc_weight > 0:
            return None
        return "loss.alignment_weight needs a trained CTC head: set loss.ctc_weight above 0"

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        """Returns the sum over text tokens of -p · log(attention near the token's centre), as a
        mean over layers and guided heads. p is CTC's probability of the token there, so the loss
        counts only as far as CTC has learned to align."""
        assert output.ctc_logits is not None
        log = output.ctc_logits.detach().float().log_softmax(-1)
        centres, sureness = ctc_alignment(
            log,
            batch.labels,
            encoder_lengths(batch.attention_mask),
            self.ctc.special_ids,
            self.ctc.blank,
        )
        frames = torch.arange(log.shape[1], device=log.device)
        near = torch.exp(-0.5 * ((frames - centres[..., None]) / WIDTH) ** 2)
        losses = [
            (-(weights * near[:, None]).sum(-1).clamp(min=LEAST_WEIGHT).log()).mean(1)
            for weights in self.calls.kept.values()
        ]
        if not losses:  # all layers were dropped
            return torch.zeros((), device=log.device)
        return (torch.stack(losses).mean(0) * sureness).sum()


@torch.no_grad()
def ctc_alignment(
    log_probs: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    special_ids: torch.Tensor,
    blank: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns each label's mean frame in CTC's best alignment, and its mean probability over its
    frames, both (B, tokens): 0 for special tokens and padding, and in rows whose text is too long.

    Args:
        log_probs: (B, T, V).
        labels: (B, tokens), IGNORED at padding.
        frames: (B,), the number of valid encoder frames.
        special_ids: tokens that are not part of the text.
    """
    is_text = text_mask(labels, special_ids)
    centres, sureness = torch.zeros(labels.shape), torch.zeros(labels.shape)
    # One utterance at a time, on the CPU: torchaudio's aligner takes no batches.
    for i, (log, count) in enumerate(zip(log_probs.cpu(), frames.tolist(), strict=True)):
        text = labels[i][is_text[i]].cpu()
        path = best_path(log[:count], text, blank)
        if path is None:
            continue
        heard, which, scores = path
        values = torch.stack([heard.float(), scores.exp()])
        sums = torch.zeros(2, len(text)).index_add(1, which, values)
        places = is_text[i].cpu()
        centres[i, places], sureness[i, places] = sums / which.bincount(minlength=len(text))
    return centres.to(labels.device), sureness.to(labels.device)
