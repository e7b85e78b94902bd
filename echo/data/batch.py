"""From examples to a batch of tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from echo.data.examples import Example
from echo.data.packing import WindowError, parts_of
from echo.data.prompts import AS_SET, Told
from echo.data.utterance import Utterance
from echo.model.geometry import FRAMES_PER_SECOND
from echo.support.errors import DataError

IGNORED = -100  # the label without a loss


@dataclass(frozen=True)
class Batch:
    utterances: list[Utterance]
    input_features: torch.Tensor  # (B, n_mels, frames)
    attention_mask: torch.Tensor  # (B, frames), 1 at valid frames
    decoder_input_ids: torch.Tensor  # (B, tokens)
    labels: torch.Tensor  # (B, tokens), IGNORED at padding
    skipped: list[DataError]  # what was wrong with utterances left out
    told: Told = AS_SET  # the language and task to decode with
    seconds: Sequence[float] = ()  # of each utterance, as it was decoded
    # (B, tokens), those of a CTC head with a vocabulary of its own; None if it has the decoder's.
    ctc_labels: torch.Tensor | None = None
    # (B, frames), 1 at the valid frames whose text is in the labels; None if it is for all.
    told_mask: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """The number of utterances, of which a window holds several."""
        return sum(len(parts_of(utterance)) for utterance in self.utterances)

    def to(self, device: torch.device) -> "Batch":
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """For the loader: copies from memory that is not pinned make the host wait for them."""
        return self.each(torch.Tensor.pin_memory)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors.items()}
        return replace(self, **changed)

    def halves(self) -> "list[Batch]":
        """Returns two batches of half the utterances each, or this one where it has only one."""
        middle = len(self.utterances) // 2
        if not middle:
            return [self]
        parts = (slice(None, middle), slice(middle, None))
        return [
            replace(
                self.each(itemgetter(part)),
                utterances=self.utterances[part],
                seconds=self.seconds[part],
            )
            for part in parts
        ]


@dataclass(frozen=True)
class Collator:
    pad_token_id: int

    def __call__(self, examples: Sequence[Example | DataError]) -> Batch | list[DataError]:
        """Returns a batch, or only what was wrong where no example is left."""
        skipped: list[DataError] = []
        for e in examples:
            if isinstance(e, WindowError):
                skipped += e.problems
            else:
                skipped += [e] if isinstance(e, DataError) else e.skipped
        good = [e for e in examples if isinstance(e, Example)]
        if not good:
            return skipped
        lengths = torch.tensor([e.features.shape[1] for e in good])
        frames = int(lengths.max())
        features = torch.zeros(len(good), good[0].features.shape[0], frames)
        for row, example in zip(features, good, strict=True):
            row[:, : example.features.shape[1]] = example.features
        tokens = [torch.tensor(e.prompt + e.tokens, dtype=torch.long) for e in good]
        labels = [t[1:].clone() for t in tokens]
        for row, example in zip(labels, good, strict=True):
            row[: len(example.prompt)] = IGNORED
        heads = [
            torch.tensor(e.ctc_tokens, dtype=torch.long) for e in good if e.ctc_tokens is not None
        ]
        mask = (torch.arange(frames) < lengths[:, None]).long()
        told_mask = None
        if any(e.begun is not None for e in good):
            told = torch.tensor([math.inf if e.begun is None else e.begun for e in good])
            told_mask = mask * (torch.arange(frames) < FRAMES_PER_SECOND * told[:, None])
        return Batch(
            utterances=[e.utterance for e in good],
            input_features=features,
            attention_mask=mask,
            decoder_input_ids=pad_sequence([t[:-1] for t in tokens], True, self.pad_token_id),
            labels=pad_sequence(labels, True, IGNORED),
            skipped=skipped,
            seconds=[e.seconds for e in good],
            ctc_labels=pad_sequence(heads, True, IGNORED) if heads else None,
            told_mask=told_mask,
        )
