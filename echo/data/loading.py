"""From utterances to batches of tensors."""

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from echo.config import DataSettings, OnError
from echo.data.audio import to_mono_16k
from echo.data.augment import spec_augment
from echo.data.batching import EpochBatches, Item, bucket
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.data.features import log_mel
from echo.data.packing import Window, WindowError, parts_of
from echo.data.prompts import AS_SET, Prompts, Told
from echo.data.tokenizer import (
    Segment,
    add_timestamps,
    encode_transcript,
    join_segments,
    prompt_ids,
)
from echo.data.utterance import Utterance
from echo.data.waveform import WaveformAugment
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE, Limits, feature_frames
from echo.support.errors import DataError
from echo.support.signals import leave_signals_to_parent

logger = logging.getLogger(__name__)

SampleChange = Callable[[torch.Tensor], torch.Tensor]  # of (samples,), which keeps their number
IGNORED = -100  # the label without a loss
MAX_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Example:
    utterance: Utterance
    features: torch.Tensor  # (n_mels, frames)
    tokens: list[int]  # from decoder start to end of text; none where unlabelled
    seconds: float  # without the silence that was added
    prompt: list[int] = field(default_factory=list)  # read before the tokens, without a loss
    skipped: tuple[DataError, ...] = ()  # what was wrong with parts of a window left out


@dataclass(frozen=True)
class Batch:
    utterances: list[Utterance]
    input_features: torch.Tensor  # (B, n_mels, frames)
    attention_mask: torch.Tensor  # (B, frames), 1 at valid frames
    decoder_input_ids: torch.Tensor  # (B, tokens)
    labels: torch.Tensor  # (B, tokens), IGNORED at padding
    skipped: list[DataError]  # what was wrong with utterances left out
    told: Told = AS_SET  # the language and task to decode with

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
        return replace(
            self,
            input_features=change(self.input_features),
            attention_mask=change(self.attention_mask),
            decoder_input_ids=change(self.decoder_input_ids),
            labels=change(self.labels),
        )

    def halves(self) -> "list[Batch]":
        """Two batches of half the utterances each, or this one where it has only one."""
        middle = len(self.utterances) // 2
        if not middle:
            return [self]
        parts = (slice(None, middle), slice(middle, None))
        return [
            Batch(
                self.utterances[part],
                self.input_features[part],
                self.attention_mask[part],
                self.decoder_input_ids[part],
                self.labels[part],
                self.skipped,
            )
            for part in parts
        ]


class ExampleReader:
    """Decodes an utterance into an example, or says why it cannot be one.

    Unless `labelled`, transcripts are not tokenised: references may hold characters that the
    model cannot write.
    """

    def __init__(
        self, tokenizer: Any, limits: Limits, labelled: bool = True, generation: Any = None
    ) -> None:
        """
        Args:
            generation: the model's generation config, by which rows tell language and task.
        """
        self.tokenizer = tokenizer
        self.limits = limits
        self.labelled = labelled
        self.prompts = Prompts(tokenizer, generation)

    def read(
        self,
        utterance: Utterance,
        speed: float = 1.0,
        change: SampleChange | None = None,
    ) -> Example:
        """The example, at this speed unless that makes it too long for the encoder.

        Args:
            change: what is done to its samples then, which keeps their number.

        Raises:
            DataError: naming the place, for audio or text that the model cannot take.
        """
        if isinstance(utterance, Window):
            return self.read_window(utterance, speed, change)
        with naming(utterance):
            samples = utterance.audio.load()
            changed = at_speed(samples, speed)
            if feature_frames(len(changed)) <= self.limits.max_frames:
                samples = changed
            features, seconds = self.features(samples, change)
            return Example(utterance, features, self.tokens(utterance), seconds)

    def features(
        self, samples: torch.Tensor, change: SampleChange | None
    ) -> tuple[torch.Tensor, float]:
        """The features of (samples,) with the silence that is added, and the seconds without it."""
        self.check_frames(feature_frames(len(samples)))
        samples = samples if change is None else change(samples)
        padded = F.pad(samples, (0, self.limits.padded(len(samples)) - len(samples)))
        return log_mel(padded, self.limits.n_mels), len(samples) / SAMPLE_RATE

    def read_window(self, window: Window, speed: float, change: SampleChange | None) -> Example:
        """As `read`, for utterances that are joined. Parts that cannot be read are left out."""
        pieces: list[torch.Tensor] = []
        read: list[Utterance] = []
        segments: list[Segment] = []
        problems: list[DataError] = []
        length = 0  # samples at this speed
        for part, pause in zip(window.parts, window.pauses, strict=False):
            try:
                with naming(part):
                    samples = at_speed(part.audio.load(), speed)
                    tokens = self.tokens(part)
            except DataError as error:
                problems.append(error)
                continue
            silence = torch.zeros(round(pause / speed * SAMPLE_RATE))
            start = (length + len(silence)) / SAMPLE_RATE
            pieces += [silence, samples]
            read.append(part)
            length += len(silence) + len(samples)
            segments.append(Segment(start, length / SAMPLE_RATE, tokens))
        if not segments:
            raise WindowError(tuple(problems))
        begun = None
        if window.begun and not problems:  # a gap would let all of it in
            samples, begun = self.beginning(window, length, speed)
            pieces.append(samples)
        with naming(window):
            features, seconds = self.features(torch.cat(pieces), change)
        ids = join_segments(self.tokenizer, segments, begun)
        room = min(self.limits.max_tokens // 2, self.limits.max_tokens - len(ids) + 1)
        prompt = prompt_ids(self.tokenizer, window.previous, room)
        heard = replace(window, parts=tuple(read))
        return Example(heard, features, ids, seconds, prompt, tuple(problems))

    def beginning(
        self, window: Window, length: int, speed: float
    ) -> tuple[torch.Tensor, float | None]:
        """A pause and what then begins of the utterance after a window's parts, (samples,) up to
        the window's end, and the time in seconds at which it begins. Nothing where its recording
        cannot be read, which is an error where it is a part."""
        assert window.begun is not None
        try:
            samples = at_speed(window.begun.audio.load(), speed)
        except DataError:
            return torch.zeros(0), None
        silence = torch.zeros(round(window.pauses[-1] / speed * SAMPLE_RATE))
        room = round(window.seconds * SAMPLE_RATE) - length
        if len(silence) + len(samples) <= room or room <= len(silence):
            return torch.zeros(0), None  # its row gives a wrong duration
        return torch.cat([silence, samples])[:room], (length + len(silence)) / SAMPLE_RATE

    def check(self, utterance: Utterance) -> None:
        """As `read`, by what is known without decoding the recording."""
        with naming(utterance):
            self.check_frames(feature_frames(round(utterance.duration * SAMPLE_RATE)))
            self.tokens(utterance)

    def tokens(self, utterance: Utterance) -> list[int]:
        """The transcript's token ids, from decoder start to end of text; none if unlabelled."""
        if not self.labelled:
            self.prompts.told(utterance)  # refuses what cannot be decoded
            return []
        prompt = self.prompts.ids(utterance)
        tokens = encode_transcript(self.tokenizer, utterance.text, prompt)
        if len(tokens) - 1 > self.limits.max_tokens:
            raise DataError(
                f"the transcript is {len(tokens) - 1} tokens long, but the decoder takes "
                f"{self.limits.max_tokens}"
            )
        return tokens

    def check_frames(self, frames: int) -> None:
        if frames > self.limits.max_frames:
            raise DataError(
                f"the audio is {frames / FRAMES_PER_SECOND} s long, but the encoder takes "
                f"{self.limits.max_frames / FRAMES_PER_SECOND} s"
            )


def at_speed(samples: torch.Tensor, speed: float) -> torch.Tensor:
    """(samples,) at 16 kHz, played faster by a factor."""
    if speed == 1.0:
        return samples
    return to_mono_16k(samples[None], round(speed * SAMPLE_RATE), "")


@contextmanager
def naming(utterance: Utterance) -> Iterator[None]:
    """Puts the utterance's place before what is wrong with it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{utterance.where or utterance.id}: {error}") from None


class TrainingSet(Dataset):
    """Reads and augments training examples. The draws for one depend on the run's seed, the
    epoch and the utterance alone: not on workers, batches or what was drawn before."""

    def __init__(
        self,
        corpus: AnyCorpus,
        reader: ExampleReader,
        settings: DataSettings,
        seed: int,
    ) -> None:
        self.corpus = corpus
        self.reader = reader
        self.settings = settings
        self.seed = seed
        self.waveform = WaveformAugment(settings.augment)
        self.epoch: tuple[int, Sequence[Utterance]] = (-1, [])

    def __getitem__(self, item: Item) -> Example | DataError:
        if isinstance(item.row, DataError):
            return item.row
        utterance = self.utterance(item)
        draw = f"{self.seed}-{item.epoch}-{utterance.id}"
        change = partial(self.waveform, rng=random.Random(f"{draw}-samples"))
        try:
            example = self.reader.read(utterance, item.speed, change)
        except DataError as error:
            return error  # not raised: a worker would bury the sentence in its traceback
        rng = random.Random(draw)
        features = spec_augment(example.features, self.settings.augment, rng)
        tokens = example.tokens
        alone = not isinstance(utterance, Window)  # a window has timestamps anyway
        if rng.random() < self.settings.timestamps and alone and utterance.text:
            tokens = add_timestamps(self.reader.tokenizer, tokens, example.seconds)
        return replace(example, features=features, tokens=tokens)

    def utterance(self, item: Item) -> Utterance:
        if item.row is not None:
            assert isinstance(item.row, Utterance)
            return item.row
        assert not isinstance(self.corpus, StreamCorpus)  # whose items come with theirs
        if self.epoch[0] != item.epoch:
            self.epoch = (item.epoch, self.corpus.train_epoch(item.epoch))
        return self.epoch[1][item.index]


class Collator:
    """Pads examples to one batch."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Example | DataError]) -> Batch | list[DataError]:
        """A batch, or only what was wrong where no example is left."""
        skipped = [problem for e in examples for problem in problems_of(e)]
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
        return Batch(
            utterances=[e.utterance for e in good],
            input_features=features,
            attention_mask=(torch.arange(frames) < lengths[:, None]).long(),
            decoder_input_ids=pad_sequence([t[:-1] for t in tokens], True, self.pad_token_id),
            labels=pad_sequence(labels, True, IGNORED),
            skipped=skipped,
        )


def problems_of(example: Example | DataError) -> Sequence[DataError]:
    """What was wrong with each utterance left out."""
    if isinstance(example, WindowError):
        return example.problems
    return [example] if isinstance(example, DataError) else example.skipped


def training_loader(
    corpus: AnyCorpus,
    batches: EpochBatches,
    reader: ExampleReader,
    settings: DataSettings,
    seed: int,
) -> DataLoader:
    """An endless loader over the sampler's batches."""
    return DataLoader(
        TrainingSet(corpus, reader, settings, seed),
        batch_sampler=batches,  # yields Items, not ints
        collate_fn=Collator(reader.tokenizer.pad_token_id),
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_parent,
        # Without one of its own the loader would draw from the generator that dropout uses.
        generator=torch.Generator().manual_seed(seed),
    )


def evaluation_batches(
    utterances: Sequence[Utterance],
    reader: ExampleReader,
    max_batch_seconds: float,
    on_error: OnError = "raise",
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches of all utterances, longest first, so that what does not fit in memory fails at
    once; with several processes, every `world`-th batch. All of a batch are told the same language
    and task. Utterances that cannot be read are
    logged and left out where `on_error` is "skip".

    Raises:
        DataError: an utterance cannot be read and `on_error` is "raise".
    """
    collate = Collator(reader.tokenizer.pad_token_id)
    durations = [
        reader.limits.padded(round(u.duration * SAMPLE_RATE)) / SAMPLE_RATE for u in utterances
    ]
    batches = []
    for told, members in told_alike(utterances, reader).items():
        own = bucket([durations[i] for i in members], max_batch_seconds, MAX_EVALUATION_BATCH)
        batches += [(told, [members[i] for i in batch]) for batch in reversed(own)]
    batches.sort(key=lambda batch: -max(durations[i] for i in batch[1]))
    for told, indices in batches[rank::world]:
        examples: list[Example | DataError] = []
        for index in indices:
            try:
                examples.append(reader.read(utterances[index]))
            except DataError as error:
                if on_error == "raise":
                    raise
                logger.warning("skipped: %s", error)
        batch = collate(examples)
        if isinstance(batch, Batch):
            yield replace(batch, told=told)


def told_alike(utterances: Sequence[Utterance], reader: ExampleReader) -> dict[Told, list[int]]:
    """The indices of utterances by their language and task, which the rows of a batch share."""
    groups: dict[Told, list[int]] = defaultdict(list)
    for index, utterance in enumerate(utterances):
        told = AS_SET
        with suppress(DataError):  # which reading it raises again
            told = reader.prompts.told(utterance)
        groups[told].append(index)
    return groups


def check_utterances(
    utterances: Sequence[Utterance], reader: ExampleReader, on_error: OnError
) -> list[Utterance]:
    """The utterances that the model can take, by what is known without decoding.

    Raises:
        DataError: one does not fit and `on_error` is "raise", or none does.
    """
    fitting = []
    for utterance in utterances:
        try:
            reader.check(utterance)
        except DataError as error:
            if on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
        else:
            fitting.append(utterance)
    if not fitting:
        raise DataError("no utterance is left that fits the model")
    if len(fitting) < len(utterances):
        logger.warning(
            "%d of %d utterances skipped", len(utterances) - len(fitting), len(utterances)
        )
    return fitting


def sample(utterances: Sequence[Utterance], count: int, seed: int = 0) -> list[Utterance]:
    """A fixed random choice of `count` utterances, or all where there are no more."""
    if count >= len(utterances):
        return list(utterances)
    return random.Random(seed).sample(list(utterances), count)
