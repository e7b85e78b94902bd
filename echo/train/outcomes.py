"""Whether steps succeeded, which the host reads late: reading waits for the device."""

import logging
from dataclasses import dataclass

from echo.checkpoints.run import CheckpointFolder
from echo.data.batching import Position
from echo.support.errors import EchoError
from echo.train.batches import StepBatches
from echo.train.not_finite import Inquiry
from echo.train.state import TrainState
from echo.train.step import Done, Skipped

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unread:
    """A step whose outcome is not read yet."""

    number: int
    start: Position  # of its batches
    ids: list[str]  # of this process's utterances
    outcome: Done | Skipped


class Outcomes:
    """The outcomes of the steps since they were last read."""

    def __init__(self, state: TrainState, checkpoints: CheckpointFolder, inquiry: Inquiry) -> None:
        self.state = state
        self.checkpoints = checkpoints
        self.inquiry = inquiry
        self.unread: list[Unread] = []

    def add(self, number: int, taken: StepBatches, outcome: Done | Skipped) -> None:
        ids = [u.id for b in taken.own for u in b.utterances]
        self.unread.append(Unread(number, taken.start, ids, outcome))

    def read(self) -> None:
        """Adds the outcomes to the progress and the metrics.

        Raises:
            EchoError: too many steps in a row were skipped.
        """
        progress, limit = self.state.progress, self.state.config.train.max_skipped_steps
        unread, self.unread = self.unread, []
        for step in unread:
            why = step.outcome
            if isinstance(why, Done):
                if why.finite:  # waits for the device
                    progress.skipped_in_row = 0
                    self.state.recent.append(why.values)
                    continue
                self.inquiry(step.number, step.start, why.values)
                why = Skipped.NUMBERS
            progress.skipped_steps += 1
            progress.skipped_in_row += 1
            ids = ", ".join(step.ids)
            logger.warning("step %d is skipped: %s; utterances: %s", step.number, why.value, ids)
            if progress.skipped_in_row >= limit:
                last = self.checkpoints.last_good() or "none yet"
                with self.state.processes.together():
                    raise EchoError(
                        f"{self.checkpoints.folder.parent}: stopped after {limit} skipped steps in "
                        f"a row, the last being step {step.number}: {why.value}; the last good "
                        f"checkpoint is {last}"
                    )
