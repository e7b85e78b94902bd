"""Every loss that a run can have, in the order in which they are added up."""

from echo.config import RunConfig
from echo.train.losses.alignment import AlignmentLoss
from echo.train.losses.anchor import AnchorLoss
from echo.train.losses.base import Loss, Setup
from echo.train.losses.joint import CTCLoss, DecoderLoss
from echo.train.losses.span_penalty import SpanPenalty
from echo.train.losses.teacher import TeacherLoss

LOSSES: tuple[type[Loss], ...] = (
    DecoderLoss,
    CTCLoss,
    AlignmentLoss,
    SpanPenalty,
    AnchorLoss,
    TeacherLoss,
)


def weighted_losses(config: RunConfig) -> list[type[Loss]]:
    """Returns the losses whose weight in a run is above 0."""
    return [loss for loss in LOSSES if loss.weight_in(config) > 0]


def reads_decoder(config: RunConfig) -> bool:
    """Returns whether any loss of a run needs the decoder, which learns nothing otherwise."""
    return any(loss.reads_decoder for loss in weighted_losses(config))


def build_losses(setup: Setup) -> list[Loss]:
    """Returns the losses of a run."""
    asked = weighted_losses(setup.config)
    return [loss(setup) for loss in LOSSES if loss.is_joint or loss in asked]
