"""The average of the weights of a run's best checkpoints."""

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from echo.checkpoints.card import CARD_FILE, model_card
from echo.checkpoints.checksums import CHECKSUMS_FILE
from echo.checkpoints.pretrained import read_generation_config
from echo.checkpoints.run import ADAPTER_FOLDER, PROGRESS_FILE, TRAINER_FILE, CheckpointFolder
from echo.config import load_run_config
from echo.model.language import language_of_text
from echo.support.errors import EchoError
from echo.support.files import new_folder, whole_folder

WEIGHTS_FILE = "model.safetensors"


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
    weights = mean_weights([path / WEIGHTS_FILE for path in found])
    # The card has no WER: it was measured of each checkpoint, not of their average.
    card = model_card(
        config,
        out.resolve().name,
        language=language_of_text(read_generation_config(found[0])),
        note=f"The mean of the weights of a run's {best} best checkpoints.",
    )
    left_out = shutil.ignore_patterns(
        TRAINER_FILE, PROGRESS_FILE, CHECKSUMS_FILE, WEIGHTS_FILE, ADAPTER_FOLDER
    )
    with whole_folder(out) as folder:
        shutil.copytree(found[0], folder, ignore=left_out, dirs_exist_ok=True)
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return found


def mean_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of each tensor over several files of the same tensors, summed in float32."""
    total: dict[str, torch.Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, not a mapping
                tensor = file.get_tensor(name)
                kinds[name] = tensor.dtype
                total[name] = total[name] + tensor if name in total else tensor.float()
    return {name: (tensor / len(files)).to(kinds[name]) for name, tensor in total.items()}
