"""The average of the weights of a run's best checkpoints."""

from pathlib import Path

from echo.checkpoints.card import model_card
from echo.checkpoints.merge import read_parents, write_mean
from echo.checkpoints.run import TRAINER_FILE, CheckpointFolder
from echo.config import load_run_config
from echo.support.errors import EchoError
from echo.support.files import new_folder


def average_run(run: Path, best: int, out: Path) -> list[Path]:
    """Writes the mean of the weights of a run's best checkpoints as a model's folder.

    Returns:
        The checkpoints that went into it.

    Raises:
        EchoError: the run has kept fewer, one is damaged, or the folder is in use.
    """
    config = load_run_config(run)
    new_folder(out)
    checkpoints = CheckpointFolder(run)
    found = [path for _, path in checkpoints.measured()][:best]
    if len(found) < best:
        raise EchoError(
            f"{run}: has {len(found)} checkpoints whose WER was measured, not {best}; "
            "train.keep_best says how many are kept"
        )
    for path in found:
        checkpoints.first_whole([path], without=(TRAINER_FILE,))
    parents = read_parents([str(path) for path in found])
    # The card has no WER: it was measured of each checkpoint, not of their average.
    card = model_card(
        config,
        out.resolve().name,
        language=parents[0].language,
        note=f"The mean of the weights of a run's {best} best checkpoints.",
    )
    write_mean(parents, [1 / best] * best, out, card=card)
    return found
