"""The floating-point operations that training takes, a cost without noise."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.model import EchoForConditionalGeneration

SECONDS = 10  # of the one utterance that is counted, or the most that the model takes
TOKENS_PER_SECOND = 5


def training_flops(model: EchoForConditionalGeneration) -> float:
    """Returns the floating-point operations of a forward and a backward pass through all weights
    for each second of audio, counted on a fixed utterance of 10 s and 50 tokens.

    Matrix products and convolutions are counted, an addition and a multiplication apart; see
    `torch.utils.flop_counter`. The model must be in evaluation mode on a CPU, so that neither
    chance nor a device's kernels matter.
    """
    config = model.config
    seconds = min(SECONDS, Limits.of(config).max_frames / FRAMES_PER_SECOND)
    features = torch.zeros(1, config.num_mel_bins, round(seconds * FRAMES_PER_SECOND))
    tokens = min(round(TOKENS_PER_SECOND * seconds), config.max_target_positions)
    counter = FlopCounterMode(display=False)
    # The counter does not know the fused kernels of all devices.
    with sdpa_kernel(SDPBackend.MATH), counter:
        output = model(
            features.to(model.dtype),
            decoder_input_ids=torch.zeros(1, tokens, dtype=torch.long),
            use_cache=False,
        )
        heads = [output.logits, *([output.ctc_logits] if config.ctc else [])]
        torch.stack([each.float().mean() for each in heads]).sum().backward()
    model.zero_grad()
    return counter.get_total_flops() / seconds
