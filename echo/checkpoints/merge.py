"""Merges models of one shape: the weighted mean of their weights.

Between a model and what was fine-tuned from it lies one that keeps most of what both know (Wortsman
et al. 2022, arXiv 2109.01903; for speech, Vander Eeckt and Van hamme 2022, arXiv 2210.15282).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import torch

from echo.checkpoints.card import CARD_FILE, merged_card, model_card
from echo.checkpoints.load import model_folder, open_as_echo
from echo.checkpoints.pretrained import PretrainedFolder
from echo.checkpoints.run import TRAINER_FILE, CheckpointFolder
from echo.checkpoints.stored import CTC_HEAD, StoredTensor
from echo.config import load_run_config
from echo.model.config import EchoConfig
from echo.model.language import language_of_text
from echo.support.errors import ConfigError, DataError, EchoError
from echo.support.files import new_folder, replace_text, whole_folder

# What decides how weights are used, besides their names and shapes and the attention.
ALIKE = (
    "encoder_attention_heads",
    "decoder_attention_heads",
    "activation_function",
    "scale_embedding",
    "cross_positions",
    "encoder_positions",
)
CLOSE_TO_1 = 1e-6


@dataclass(frozen=True)
class Parent:
    """One of the models that are merged."""

    source: str  # as it was named
    checkpoint: PretrainedFolder
    config: EchoConfig  # a Whisper's too
    weights: dict[str, StoredTensor]

    @property
    def padding(self) -> tuple[float | None, float]:
        """Seconds to which it pads, None where it does not, and seconds of silence it adds."""
        return self.config.pad_to_seconds, self.config.added_silence

    @property
    def language(self) -> str | None:
        """The code of the language that it writes, where it is known."""
        return language_of_text(self.checkpoint.generation)


def read_parents(sources: Sequence[str], which: str = "best") -> list[Parent]:
    """Opens models to merge: runs, folders of Echo or Whisper models, or hub ids. Raises EchoError
    where one cannot be read, or has another shape than the first."""
    parents = []
    for source in sources:
        checkpoint, config = open_as_echo(model_folder(source, which))
        parents.append(Parent(source, checkpoint, config, checkpoint.untied_weights(config)))
    for other in parents[1:]:
        if difference := different(parents[0], other):
            raise DataError(
                f"{parents[0].source} and {other.source} cannot be merged: {difference}"
            )
    return parents


def different(one: Parent, other: Parent) -> str | None:
    """Returns the first thing in which two models are not of one shape; None if they are."""
    for stack in ("encoder", "decoder"):
        layers = [getattr(p.config, f"{stack}_attention")() for p in (one, other)]
        if len(layers[0]) != len(layers[1]):
            return f"their {stack}s have {len(layers[0])} and {len(layers[1])} layers"
        for i, (a, b) in enumerate(zip(*layers, strict=True)):
            if a.form != b.form:
                return f"layer {i} of their {stack}s has the attention {a.form} and {b.form}"
            if a != b:
                return f"the attention of layer {i} of their {stack}s has different settings"
    for key in ALIKE:
        a, b = getattr(one.config, key), getattr(other.config, key)
        if a != b:
            return f"their {key} is {a} and {b}"
    heads = [(p.config.ctc_vocabulary, p.config.ctc_layers) for p in (one, other) if p.config.ctc]
    if len(heads) == 2 and heads[0] != heads[1]:
        return "their CTC heads have different tokens, or hear different layers"
    for first, second in ((one, other), (other, one)):
        for name in first.weights:
            if name not in second.weights and not name.startswith(CTC_HEAD):
                return f"only {first.source} has the weight {name}"
    for name, weight in one.weights.items():
        if name in other.weights and weight.shape != other.weights[name].shape:
            return f"their weight {name} is of shape {weight.shape} and {other.weights[name].shape}"
    own, others = one.checkpoint.tokenizer(), other.checkpoint.tokenizer()
    if own and others and own.get_vocab() != others.get_vocab():
        return "their tokenizers have different tokens"
    return None


def check_shares(shares: Sequence[float], count: int, key: str) -> None:
    """Raises ConfigError where these are not the weights of so many models."""
    if len(shares) != count:
        raise ConfigError(f"{key} has {len(shares)} numbers for {count} models: give one for each")
    if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > CLOSE_TO_1:
        raise ConfigError(f"{key} must be numbers from 0 to 1 that add up to 1")


def leader(parents: Sequence[Parent], shares: Sequence[float]) -> Parent:
    """Returns the model with the largest share, of equal ones the last: the mean pads and generates
    as it does. Near a Whisper, a mean still needs the 30 s that it was trained with."""
    return parents[max(range(len(parents)), key=lambda i: (shares[i], i))]


def merge_models(
    sources: Sequence[str], shares: Sequence[float], out: Path, which: str = "best"
) -> Parent:
    """Writes the weighted mean of runs, models' folders or hub ids as a model's folder with a card.
    Returns the one by which the mean pads and generates, see `leader`."""
    check_shares(shares, len(sources), "--weights")
    new_folder(out)
    parents = read_parents(sources, which)
    write_mean(parents, shares, out)
    return leader(parents, shares)


def write_mean(
    parents: Sequence[Parent],
    shares: Sequence[float],
    out: Path,
    note: str = "",
    card: str | None = None,
) -> None:
    """Writes the weighted mean of models as a folder: an Echo model, or if all are Whispers a
    Whisper. All but the weights is the `leader`'s.

    Args:
        shares: of the parents, which add up to 1; see `check_shares`. A share of 1 gives that
            model's weights, bit for bit.
        note: Markdown for the card.
        card: another card than that of a merged model.
    """
    # One without a share leaves nothing in the mean, neither its CTC head nor its precision.
    used = [(each, share) for each, share in zip(parents, shares, strict=True) if share > 0]
    parents, shares = [each for each, _ in used], [share for _, share in used]
    chosen = leader(parents, shares)
    tensors = mean_tensors(parents, shares)
    is_echo = any(isinstance(parent.checkpoint.config, EchoConfig) for parent in parents)
    config = copy.deepcopy(chosen.config if is_echo else chosen.checkpoint.config)
    for parent in parents:
        if parent.config.ctc and isinstance(config, EchoConfig):
            for key in ("ctc", "ctc_vocabulary", "ctc_layers"):
                setattr(config, key, getattr(parent.config, key))
    config.dtype = tensors["model.encoder.layer_norm.weight"].dtype
    sources = [parent.source for parent in parents]
    card = card or merged_card(out.resolve().name, sources, shares, chosen.language, note)
    with whole_folder(out) as folder:
        chosen.checkpoint.write_model(folder, config, tensors)
        replace_text(folder / CARD_FILE, card)


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


def mean_tensors(parents: Sequence[Parent], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """Returns the weighted mean of each weight, in the least precision that holds those of all
    models, by shares that are above 0. It is summed in float32 or better. The mean of a CTC head is
    that of the models that have one."""
    means = {}
    names = dict.fromkeys(name for parent in parents for name in parent.weights)
    for name in names:
        pairs = zip(parents, shares, strict=True)
        having = [(parent, share) for parent, share in pairs if name in parent.weights]
        dtypes = [parent.weights[name].load().dtype for parent, _ in having]
        dtype = reduce(torch.promote_types, dtypes)
        whole = sum(share for _, share in having)
        if len(having) == 1 or not dtype.is_floating_point:
            # Copied: a share may not be scaled to exactly 1, and whole numbers have no mean.
            first = leader(*map(list, zip(*having, strict=True)))
            means[name] = first.weights[name].load().to(dtype).clone()
            continue
        exact = torch.promote_types(dtype, torch.float32)
        factor = 1 / whole if len(having) < len(parents) else 1.0
        total = sum(factor * share * parent.weights[name].load(exact) for parent, share in having)
        assert isinstance(total, torch.Tensor)
        means[name] = total.to(dtype)
    return means
