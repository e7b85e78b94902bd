"""The parameters that are trained, and their optimiser."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

from echo.config import TrainSettings
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper_names import new_parameters
from echo.support.errors import ConfigError


def freeze(model: nn.Module, modules: Sequence[str]) -> None:
    """Excludes modules and parameters from training, by name: "encoder.conv1", or all of "encoder".
    ConfigError if there is no such module."""
    for parameters in parameters_of(model, modules, "train.freeze").values():
        for parameter in parameters:
            parameter.requires_grad_(False)


def parameters_of(
    model: nn.Module, modules: Iterable[str], setting: str
) -> dict[str, set[nn.Parameter]]:
    """Returns the parameters of modules by their names, which `setting` holds. ConfigError if there
    is no such module."""
    found = {}
    for module in modules:
        found[module] = {
            parameter
            # A tied weight has several names.
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if f"{name}.".startswith((f"{module}.", f"model.{module}."))
        }
        if not found[module]:
            raise ConfigError(f"{setting}: the model has no module {module!r}")
    return found


def part_of_each(model: nn.Module, rates: Mapping[str, float]) -> dict[nn.Parameter, str]:
    """Returns the name in `train.rates` that each trained parameter goes by, of those that do.
    ConfigError if a name is of no module, or no trained parameter goes by it."""
    found = parameters_of(model, rates, "train.rates")
    parts = {
        parameter: name
        # The innermost module comes last.
        for name in sorted(found, key=lambda name: len(found[name]), reverse=True)
        for parameter in found[name]
        if parameter.requires_grad
    }
    for name in rates:
        if name not in parts.values():
            raise ConfigError(
                f"train.rates: {name!r} has no effect, because none of its parameters is trained "
                "or all are named by modules within it: leave it out"
            )
    return parts


def build_optimiser(
    model: EchoForConditionalGeneration, settings: TrainSettings
) -> torch.optim.Optimizer:
    """The optimiser, with weight decay on matrices only, not on biases, norms or temperatures.
    Parameters that a Whisper checkpoint lacks may have a learning rate of their own. ConfigError if
    no parameter is left to train, none is left for Muon, or a setting has no effect."""
    betas = (settings.betas[0], settings.betas[1])
    if settings.optimiser == "adafactor":
        if settings.betas != TrainSettings().betas:
            raise ConfigError("train.betas has no effect under adafactor: leave it out")
        return torch.optim.Adafactor(groups_of(model, settings))
    if settings.optimiser == "muon":
        # Neither embeddings and output projections, nor what a Whisper lacks: some of it is thin.
        new = new_parameters(model)
        matrices = {
            name
            for name, p in model.named_parameters()
            if p.requires_grad and p.ndim == 2 and ".layers." in name and name not in new
        }
        hidden = groups_of(model, settings, matrices.__contains__)
        if not hidden:
            raise ConfigError(
                "train.optimiser=muon trains matrices of hidden layers, but train.freeze or lora "
                "leaves none: choose adamw"
            )
        others = groups_of(model, settings, lambda name: name not in matrices)
        return MuonWithAdamW(hidden, others, betas)
    return torch.optim.AdamW(groups_of(model, settings), betas=betas, fused=True)


def groups_of(
    model: EchoForConditionalGeneration,
    settings: TrainSettings,
    belongs: Callable[[str], bool] = lambda name: True,
) -> list[dict[str, Any]]:
    """Groups of the trained parameters that belong by their names, with their rates and decays, and
    with the `part` that their rate is logged by: its name in `train.rates`, "new" for what a
    Whisper lacks, both, or neither."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("train.freeze leaves nothing to train")
    new_rate = settings.new_learning_rate
    new = set() if new_rate is None else new_parameters(model)
    rates = settings.rates or {}
    parts = part_of_each(model, rates)
    groups = []
    for is_new, part, is_matrix in product((False, True), ("", *rates), (True, False)):
        parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
            and belongs(name)
            and (name in new, parts.get(parameter, ""), parameter.ndim >= 2)
            == (is_new, part, is_matrix)
        ]
        if parameters:
            rate = settings.learning_rate if new_rate is None or not is_new else new_rate
            groups.append(
                {
                    "params": parameters,
                    "weight_decay": settings.weight_decay if is_matrix else 0.0,
                    "lr": rate * rates.get(part, 1.0),
                    "part": "/".join(filter(None, [part, "new" if is_new else ""])),
                }
            )
    return groups


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon (Jordan et al. 2024) for the matrices of hidden layers and AdamW for all other
    parameters, as one optimiser. Its groups and state are theirs, so that schedules, gradient
    clipping and checkpoints see one.

    Muon's updates are scaled to AdamW's size (Liu et al. 2025, "Muon is scalable for LLM
    training"), so one learning rate and one weight decay serve both.
    """

    def __init__(
        self,
        hidden: Sequence[dict[str, Any]],
        others: Sequence[dict[str, Any]],
        betas: tuple[float, float],
    ) -> None:
        muon = torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw")
        parts: list[torch.optim.Optimizer] = [muon]
        if others:
            parts.append(torch.optim.AdamW(others, betas=betas, fused=True))
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self.share()

    def share(self) -> None:
        """Makes the parts work on this optimiser's groups and state."""
        first = 0
        for part in self.parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            first = last

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.share()


def state_shapes(optimiser: torch.optim.Optimizer) -> dict[int, dict[str, tuple[int, ...]]]:
    """Returns the shapes of what an optimiser keeps of each parameter, by its number."""
    shapes: dict[int, dict[str, tuple[int, ...]]] = {}
    for part in getattr(optimiser, "parts", [optimiser]):
        for parameter in (p for group in part.param_groups for p in group["params"]):
            shape = tuple(parameter.shape)
            match part:
                case torch.optim.Muon():
                    kept = {"momentum_buffer": shape}
                case torch.optim.Adafactor() if len(shape) > 1:
                    rows, columns = (*shape[:-1], 1), (*shape[:-2], 1, shape[-1])
                    kept = {"step": (), "row_var": rows, "col_var": columns}
                case torch.optim.Adafactor():
                    kept = {"step": (), "variance": shape}
                case _:
                    kept = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
            shapes[len(shapes)] = kept
    return shapes
