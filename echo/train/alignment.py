"""A loss that makes the decoder's cross-attention look where CTC hears each token.

A decoder trained from scratch makes most of its errors at the start of words, which it repeats or
skips, because it does not know where to look next. The CTC head learns this early, so its best
alignment guides half of the heads of each cross-attention (compare Tachibana et al. 2018,
"Efficiently trainable text-to-speech system based on deep convolutional networks with guided
attention").
"""

from functools import partial
from typing import Any

import torch

from echo.evaluate.ctc_alignment import best_path
from echo.model.geometry import encoder_lengths
from echo.model.model import EchoForConditionalGeneration
from echo.train.loss import text_mask

WIDTH = 2.0  # standard deviation around a token's centre, in encoder frames of 20 ms
LEAST_WEIGHT = 1e-6  # the loss is flat where attention near a token's centre is below this


class AlignmentLoss:
    """Remembers the cross-attention of the last training batch and compares it with CTC."""

    def __init__(self, model: EchoForConditionalGeneration) -> None:
        self.weights: dict[int, torch.Tensor] = {}  # by layer, (B, guided heads, tokens, frames)
        for index, layer in enumerate(model.model.decoder.layers):
            layer.encoder_attn.register_forward_hook(
                partial(self.remember, index), with_kwargs=True
            )

    def remember(
        self, index: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if module.training:
            heads = max(1, module.num_heads // 2)
            self.weights[index] = module.weights(*args, **kwargs, heads=heads)

    def __call__(
        self,
        ctc_logits: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor,
        special_ids: torch.Tensor,
        blank: int,
    ) -> torch.Tensor:
        """The sum over text tokens of -p · log(attention near the token's centre), as a mean over
        layers and guided heads. p is CTC's probability of the token there, so the loss counts only
        as far as CTC has learned to align.

        Args:
            ctc_logits: (B, T, V).
            labels: (B, tokens), IGNORED at padding.
            attention_mask: (B, frames) over the features.
            special_ids: tokens that are not part of the text.
            blank: CTC's blank token.

        Returns:
            A scalar, summed over the batch.
        """
        log = ctc_logits.detach().float().log_softmax(-1)
        centres, sureness = ctc_alignment(
            log, labels, encoder_lengths(attention_mask), special_ids, blank
        )
        frames = torch.arange(log.shape[1], device=log.device)
        near = torch.exp(-0.5 * ((frames - centres[..., None]) / WIDTH) ** 2)
        losses = [
            (-(weights * near[:, None]).sum(-1).clamp(min=LEAST_WEIGHT).log()).mean(1)
            for weights in self.weights.values()
        ]
        if not losses:  # all layers were dropped
            return torch.zeros((), device=labels.device)
        return (torch.stack(losses).mean(0) * sureness).sum()

    def forget(self) -> None:
        """Frees the graph of the batch."""
        self.weights.clear()


@torch.no_grad()
def ctc_alignment(
    log_probs: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    special_ids: torch.Tensor,
    blank: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where CTC's best alignment puts each label, and how probable CTC finds it there.

    Args:
        log_probs: (B, T, V).
        labels: (B, tokens), IGNORED at padding.
        frames: (B,), the number of valid encoder frames.

    Returns:
        Each label's mean frame, and its mean probability over its frames, both (B, tokens). 0 for
        special tokens and padding, and in rows whose text is too long for its frames.
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
