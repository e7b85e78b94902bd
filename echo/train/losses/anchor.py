"""A loss that keeps fine-tuning near the model that it starts from, so that less is forgotten: as
learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), over the training recordings."""

from echo.config import RunConfig
from echo.train.losses.base import Setup
from echo.train.losses.divergence import Divergence


class AnchorLoss(Divergence):
    """The divergence from a frozen copy of the starting model."""

    name = "anchor_kl"
    setting = "anchor_kl"

    def __init__(self, setup: Setup) -> None:
        assert setup.start is not None
        super().__init__(setup, setup.start)

    @classmethod
    def problem(cls, config: RunConfig) -> str | None:
        if config.init is not None:
            return None
        return "loss.anchor_kl needs init: it keeps what a checkpoint knows"
