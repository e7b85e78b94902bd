"""From an utterance to an example: decoded, as features and tokens, or what is wrong with it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F

from echo.config import OnError
from echo.data.columns import cells, taken
from echo.data.features import log_mel
from echo.data.mixing import to_mono_16k
from echo.data.packing import Window, WindowError
from echo.data.prompts import Prompts
from echo.data.tokenizer import (
    MARK,
    Segment,
    as_spoken,
    ctc_tokenizer,
    encode_transcript,
    is_lossless,
    join_segments,
    prompt_ids,
    text_ids,
)
from echo.data.utterance import Utterance
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE, Limits, feature_frames
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import DataError

logger = logging.getLogger(__name__)

HEADERS_ERR = FRAMES_PER_SECOND  # frames: some headers give a length about right

SampleChange = Callable[[torch.Tensor], torch.Tensor]  # of (samples,), which keeps their number


@dataclass(frozen=True)
class Example:
    utterance: Utterance
    features: torch.Tensor  # (n_mels, frames)
    tokens: list[int]  # from decoder start to end of text; none where unlabelled
    seconds: float  # without the silence that was added
    prompt: list[int] = field(default_factory=list)  # read before the tokens, without a loss
    skipped: tuple[DataError, ...] = ()  # what was wrong with parts of a window left out
    ctc_tokens: list[int] | None = None  # of a CTC head with a vocabulary of its own
    begun: float | None = None  # seconds, from where on an utterance is heard without its text


@dataclass(eq=False)
class ExampleReader:
    """Decodes an utterance into an example, or says why it cannot be one.

    Unless `labelled`, transcripts are not tokenised: references may hold characters that the
    model cannot write.
    """

    tokenizer: Any
    limits: Limits
    labelled: bool = True
    generation: Any = None  # the model's generation config, by which rows tell language and task
    ctc_tokenizer: Any = None  # of a CTC head with a vocabulary of its own

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.tokenizer, self.generation)

    @classmethod
    def of(
        cls,
        model: EchoForConditionalGeneration,
        tokenizer: Any,
        labelled: bool = True,
        limits: Limits | None = None,
    ) -> "ExampleReader":
        """Returns the reader of a model's examples, with its own limits unless others are given."""
        limits = limits or Limits.of(model.config)
        head = ctc_tokenizer(model.config, None)
        return cls(tokenizer, limits, labelled, model.generation_config, head)

    def read(
        self, utterance: Utterance, speed: float = 1.0, change: SampleChange | None = None
    ) -> Example:
        """Returns the example, at this speed unless that makes it too long for the encoder.

        Args:
            change: what is done to its samples then, which keeps their number.

        Raises:
            DataError: naming the place, for audio or text that the model cannot take.
        """
        if isinstance(utterance, Window):
            return self.read_window(utterance, speed, change)
        with naming(utterance):
            samples = self.samples(utterance)
            changed = at_speed(samples, speed)
            if feature_frames(len(changed)) <= self.limits.max_frames:
                samples = changed
            features, seconds = self.features(samples, change)
            tokens = self.tokens(utterance)
            head = self.ctc_tokens(utterance)
            return Example(utterance, features, tokens, seconds, ctc_tokens=head)

    def samples(self, utterance: Utterance) -> torch.Tensor:
        """Decodes a recording, unless it is too long by its header: a row may give less, and hours
        take gigabytes."""
        audio = utterance.audio.fetch()
        frames = feature_frames(round(audio.seconds() * SAMPLE_RATE))
        if frames > self.limits.max_frames + HEADERS_ERR:
            self.check_frames(frames)
        return audio.load()

    def features(
        self, samples: torch.Tensor, change: SampleChange | None
    ) -> tuple[torch.Tensor, float]:
        """Returns the features of (samples,) with the silence that is added, and the seconds
        without it."""
        self.check_frames(feature_frames(len(samples)))
        samples = samples if change is None else change(samples)
        padded = F.pad(samples, (0, self.limits.padded(len(samples)) - len(samples)))
        return log_mel(padded, self.limits.n_mels), len(samples) / SAMPLE_RATE

    def read_window(self, window: Window, speed: float, change: SampleChange | None) -> Example:
        """Does as `read` does, for utterances that are joined. Parts that cannot be read are left
        out."""
        pieces: list[torch.Tensor] = []
        read: list[Utterance] = []
        segments: list[Segment] = []
        problems: list[DataError] = []
        length = 0  # samples at this speed
        for place, part in enumerate(window.parts):
            try:
                with naming(part):
                    pause = pause_of(window, place, speed)
                    samples = at_speed(self.samples(part), speed)
                    tokens = self.tokens(part)
            except DataError as error:
                problems.append(error)
                continue
            start = (length + len(pause)) / SAMPLE_RATE
            pieces += [pause, samples]
            read.append(part)
            length += len(pause) + len(samples)
            segments.append(Segment(start, length / SAMPLE_RATE, tokens))
        if not segments:
            raise WindowError(tuple(problems))
        begun = None
        if window.begun and not problems:  # a gap would let all of it in
            samples, begun = self.beginning(window, length, speed)
            pieces.append(samples)
        with naming(window):
            features, seconds = self.features(torch.cat(pieces), change)
            heard = replace(window, parts=tuple(read), text=" ".join(part.text for part in read))
            timed = window.timed
            ids = join_segments(self.tokenizer, segments, begun) if timed else self.tokens(heard)
            self.check_tokens(ids)
        room = min(self.limits.max_tokens // 2, self.limits.max_tokens - len(ids) + 1)
        prompt = prompt_ids(self.tokenizer, window.previous, room)
        head = self.ctc_tokens(heard)
        return Example(heard, features, ids, seconds, prompt, tuple(problems), head, begun)

    def beginning(
        self, window: Window, length: int, speed: float
    ) -> tuple[torch.Tensor, float | None]:
        """Returns a pause and what then begins of the utterance after a window's parts, (samples,)
        up to the window's end, and the time in seconds at which it begins. Nothing where its
        recording cannot be read, which is an error where it is a part."""
        assert window.begun is not None
        try:
            samples = at_speed(self.samples(window.begun), speed)
            pause = pause_of(window, len(window.parts), speed)
        except DataError:
            return torch.zeros(0), None
        room = round(window.seconds * SAMPLE_RATE) - length
        if len(pause) + len(samples) <= room or room <= len(pause):
            return torch.zeros(0), None  # its row gives a wrong duration
        return torch.cat([pause, samples])[:room], (length + len(pause)) / SAMPLE_RATE

    def doubtful(self, utterances: Sequence[Utterance]) -> Iterator[int]:
        """Yields the numbers of the utterances that must be checked one by one. Of most, their
        duration and the bytes of their text, of which each is a token at most, tell that they
        fit."""
        lossless = not self.labelled or is_lossless(self.tokenizer)
        room: dict[tuple[str | None, str | None], float] = {}  # bytes, by language and task
        told = cells(utterances, "text", "duration", "language", "task")
        for number, (text, seconds, *prompt) in enumerate(told):
            key = (prompt[0], prompt[1])
            if key not in room:
                room[key] = self.room(utterances[number])
            frames = feature_frames(round(seconds * SAMPLE_RATE))
            size = len(text.encode()) + len(" ") if self.labelled else 0
            fits = frames <= self.limits.max_frames and size <= room[key]
            if not (fits and lossless) or (self.labelled and MARK in text):
                yield number

    def room(self, utterance: Utterance) -> float:
        """Returns how many tokens the decoder takes after an utterance's prompt; less than 0 where
        it can have none."""
        try:
            self.prompts.told(utterance)
            return self.limits.max_tokens - len(self.prompts.ids(utterance)) if self.labelled else 0
        except DataError:
            return -1

    def check(self, utterance: Utterance) -> None:
        """Checks as `read` does, by what is known without decoding the recording."""
        with naming(utterance):
            self.check_frames(feature_frames(round(utterance.duration * SAMPLE_RATE)))
            self.tokens(utterance)

    def tokens(self, utterance: Utterance) -> list[int]:
        """Returns the transcript's token ids, from decoder start to end of text; none if
        unlabelled."""
        if not self.labelled:
            self.prompts.told(utterance)  # refuses what cannot be decoded
            return []
        prompt = self.prompts.ids(utterance)
        tokens = encode_transcript(self.tokenizer, utterance.text, prompt)
        self.check_tokens(tokens)
        return tokens

    def ctc_tokens(self, utterance: Utterance) -> list[int] | None:
        """Returns the transcript in the tokens of a CTC head's own vocabulary, if it has one."""
        if not self.labelled or self.ctc_tokenizer is None:
            return None
        return text_ids(self.ctc_tokenizer, as_spoken(utterance.text))

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raises DataError where a target sequence is too long for the decoder."""
        if len(tokens) - 1 > self.limits.max_tokens:
            raise DataError(
                f"the transcript is {len(tokens) - 1} tokens long, but the decoder takes "
                f"{self.limits.max_tokens}"
            )

    def check_frames(self, frames: int) -> None:
        if frames > self.limits.max_frames:
            raise DataError(
                f"the audio is {frames / FRAMES_PER_SECOND} s long, but the encoder takes "
                f"{self.limits.max_frames / FRAMES_PER_SECOND} s"
            )


def pause_of(window: Window, place: int, speed: float) -> torch.Tensor:
    """Returns what sounds before a part of a window, (samples,) at this speed."""
    recorded = window.recorded[place] if window.recorded else None
    if recorded:
        return at_speed(recorded.load(), speed)
    return torch.zeros(round(window.pauses[place] / speed * SAMPLE_RATE))


def at_speed(samples: torch.Tensor, speed: float) -> torch.Tensor:
    """Returns (samples,) at 16 kHz, played faster by a factor."""
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


def check_utterances(
    utterances: Sequence[Utterance], reader: ExampleReader, on_error: OnError
) -> Sequence[Utterance]:
    """Returns the utterances that the model can take, by what is known without decoding. DataError
    if one does not fit and `on_error` is "raise", or none does."""
    bad: set[int] = set()
    for number in reader.doubtful(utterances):
        try:
            reader.check(utterances[number])
        except DataError as error:
            if on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            bad.add(number)
    if len(bad) == len(utterances):
        raise DataError("no utterance is left that fits the model")
    if not bad:
        return utterances
    logger.warning("%d of %d utterances skipped", len(bad), len(utterances))
    return taken(utterances, [i for i in range(len(utterances)) if i not in bad])
