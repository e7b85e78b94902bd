"""Utterances of one recording or speaker joined into windows, as Whisper was trained.

A model that only ever hears single utterances forgets what Whisper's windows of 30 s are: several
segments with times, of which the last may have only begun. It then stops after the first, or skips
speech, in everything that is longer.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from echo.config import PackSettings
from echo.data.audio import Audio, AudioSlice, JoinedAudio
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.text import natural

MAX_PAUSE = 0.5  # seconds of silence before an utterance, at most
# Seconds between two parts of a recording, at most, for what lies there to be a pause of theirs:
# in more there may be speech that no row has.
MAX_RECORDED_PAUSE = 2.0
# Seconds by which a recording may be longer than its row says, for durations are rounded.
TOLERANCE = 0.05
LONGEST_PREFIX = 4  # tokens: start, language, task, and that there are no timestamps
MIN_BEGUN = 1.0  # seconds: in less of an utterance there may be no speech yet


@dataclass(frozen=True)
class Window(Utterance):
    """Several utterances as one; `text` is all of theirs."""

    parts: tuple[Utterance, ...] = ()
    pauses: tuple[float, ...] = ()  # seconds before each part, and before what has only begun
    # What sounds in each of the pauses: what was recorded there, or silence where that is None.
    recorded: tuple[Audio | None, ...] = ()
    # The utterance after the parts, which begins in the window and is cut off at its end, as
    # speech is in a recording that is heard window by window: of it, only the start is learned.
    begun: Utterance | None = None
    seconds: float = 0.0  # longest, at the speed at which it is played
    previous: str = ""  # what was said before, to be the prompt
    timed: bool = True  # whether timestamps stand between the parts


def parts_of(utterance: Utterance) -> tuple[Utterance, ...]:
    """Returns the utterances that one of a batch is joined from: itself, unless it is a window."""
    return utterance.parts if isinstance(utterance, Window) else (utterance,)


class WindowError(DataError):
    """No part of a window can be read."""

    def __init__(self, problems: tuple[DataError, ...]) -> None:
        super().__init__(problems)  # of which a worker's copy is made
        self.problems = problems  # of each part

    def __str__(self) -> str:
        return "; ".join(map(str, self.problems))


@dataclass(eq=False)
class Packer:
    """Joins the utterances of an epoch. It depends on nothing but them and the random numbers."""

    settings: PackSettings
    tokenizer: Any
    max_tokens: int  # the most that the decoder takes
    counts: dict[str, int] = field(default_factory=dict, init=False)  # tokens of a text, by it

    def pack(
        self, utterances: Sequence[Utterance], speeds: Sequence[float], rng: random.Random
    ) -> list[tuple[Utterance, float]]:
        """Returns every utterance exactly once, alone or as a part of a `Window`, each with the
        speed it is played at.

        Utterances of a group follow one another as they do in their source. The window that a
        group begins with has a random length, so that an epoch's windows are not those of another.
        Across speakers all utterances are one shuffled group, and every window has a random length.
        """
        self.count([utterance.text for utterance in utterances])
        packed: list[tuple[Utterance, float]] = []
        across = self.settings.across_speakers
        shuffled = rng.sample(utterances, len(utterances)) if across else []
        for group in [shuffled] if across else groups(utterances):
            place, seconds = 0, rng.uniform(0, self.settings.seconds)
            while place < len(group):
                speed = rng.choice(speeds)
                window = self.window(group, place, seconds, speed, rng)
                is_joined = len(window.parts) > 1 or window.begun is not None
                if is_joined and rng.random() < self.settings.share:
                    packed.append((window, speed))
                else:
                    packed += [(part, rng.choice(speeds)) for part in window.parts]
                place += len(window.parts)
                seconds = rng.uniform(0, self.settings.seconds) if across else self.settings.seconds
        return packed

    def window(
        self,
        group: Sequence[Utterance],
        first: int,
        seconds: float,
        speed: float,
        rng: random.Random,
    ) -> Window:
        """Joins as many utterances as go into so many seconds, at least one."""
        pauses = [rng.uniform(0, MAX_PAUSE)]
        recorded: list[Audio | None] = [None]
        length = pauses[0] + group[first].duration + TOLERANCE  # before the speed is changed
        # With two times for each part, and one for the start of what has only begun.
        tokens = LONGEST_PREFIX + self.counts[group[first].text] + 2
        end = first + 1
        while end < len(group):
            pause, sound = recorded_pause(group[end - 1].audio, group[end].audio)
            drawn = rng.uniform(0, MAX_PAUSE)
            pauses.append(drawn if pause is None else pause)
            recorded.append(sound)
            longer = length + pauses[-1] + group[end].duration + TOLERANCE
            more = tokens + self.counts[group[end].text] + 2
            if longer > seconds * speed or more > self.max_tokens:
                break
            length, tokens = longer, more
            end += 1
        parts = tuple(group[first:end])
        begun = None
        fits = tokens <= self.max_tokens  # a single part may not
        if len(pauses) > len(parts) and seconds == self.settings.seconds and fits:
            room = seconds * speed - length - pauses[-1]
            # One that has room is left out for its text alone, and has not only begun.
            if MIN_BEGUN * speed <= room < group[end].duration:
                begun, length = group[end], seconds * speed
        share = self.settings.prompt_share
        if share is None:
            share = 0.0 if self.settings.across_speakers else 0.5
        prompted = rng.random() < share
        return Window(
            id="+".join(part.id for part in parts),
            audio=joined([part.audio for part in parts], pauses, recorded),
            text=" ".join(part.text for part in parts),
            duration=length,
            speaker=parts[0].speaker,
            language=parts[0].language,
            task=parts[0].task,
            where=f"the window of {parts[0].where or parts[0].id} to "
            f"{parts[-1].where or parts[-1].id}",
            parts=parts,
            pauses=tuple(pauses),
            recorded=tuple(recorded),
            begun=begun,
            seconds=seconds,
            previous=self.before(group[:first]) if prompted else "",
            timed=not self.settings.across_speakers,
        )

    def before(self, utterances: Sequence[Utterance]) -> str:
        """Returns the last of what was said, as long as a prompt can be."""
        texts: list[str] = []
        tokens = 0
        for utterance in reversed(utterances):
            if tokens >= self.max_tokens // 2:
                break
            texts.append(utterance.text)
            tokens += self.counts[utterance.text]
        return " ".join(reversed(texts))

    def count(self, texts: Sequence[str]) -> None:
        """Counts the tokens of these texts, of which those of the last time are known."""
        self.counts = {text: self.counts[text] for text in texts if text in self.counts}
        new = [text for text in dict.fromkeys(texts) if text not in self.counts]
        if new:
            spoken = [f" {' '.join(text.split())}" for text in new]
            found = self.tokenizer(spoken, add_special_tokens=False).input_ids
            self.counts |= {text: len(ids) for text, ids in zip(new, found, strict=True)}


def recorded_pause(before: Audio, after: Audio) -> tuple[float | None, Audio | None]:
    """Returns the seconds between two slices that follow one another in a recording, and what
    sounds there, None where they touch. No seconds where they do not follow one another, or not
    soon."""
    first, second = before.as_slice(), after.as_slice()
    if not first or not second or first.end is None or first.audio != second.audio:
        return None, None
    seconds = round(second.start - first.end, 3)
    if not 0 <= seconds <= MAX_RECORDED_PAUSE:
        return None, None
    return seconds, AudioSlice(first.audio, first.end, second.start) if seconds else None


def joined(
    parts: Sequence[Audio], pauses: Sequence[float], recorded: Sequence[Audio | None]
) -> JoinedAudio:
    """Joins recordings, each with a pause before it, of silence or of what was recorded."""
    sounds: list[Audio] = []
    silences: list[float] = []
    for part, pause, sound in zip(parts, pauses, recorded, strict=False):
        sounds += [sound, part] if sound else [part]
        silences += [0.0, 0.0] if sound else [pause]
    return JoinedAudio(tuple(sounds), tuple(silences))


def groups(utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """Returns the utterances of each recording or speaker, in the order of their source; each of
    those that name neither, or in which nobody speaks, is a group of its own."""
    found: dict[Hashable, list[Utterance]] = defaultdict(list)
    for number, utterance in enumerate(utterances):
        group = group_of(utterance)
        found[("alone", number) if group is None else ("together", group)].append(utterance)
    return [in_order(group) for group in found.values()]


def group_of(utterance: Utterance) -> Hashable:
    """Returns what utterances of one window have in common; None where nothing is known, or nobody
    speaks."""
    recording = utterance.extra.get("recording")
    # On each channel of a call another speaks, at the same time.
    channel = None if recording is None else utterance.audio.only_channel()
    if recording is not None and utterance.text and utterance.audio.as_slice():
        # Whoever speaks: else what lies between two slices could be the speech of another.
        return recording, channel, None, utterance.language, utterance.task
    if not utterance.text or (recording is None and utterance.speaker is None):
        return None
    return recording, channel, utterance.speaker, utterance.language, utterance.task


def in_order(group: Sequence[Utterance]) -> list[Utterance]:
    """Sorts slices by where they start, and others by places in the source, whose numbers count as
    numbers. What comes several times in an epoch, because its source weighs more, comes again after
    all others."""
    seen: Counter[tuple[str, str]] = Counter()
    keyed = []
    for utterance in group:
        name = (utterance.where, utterance.id)
        part = utterance.audio.as_slice()
        places = natural(name[0]), natural(name[1])
        keyed.append((seen[name], part.start if part else 0.0, *places))
        seen[name] += 1
    return [group[i] for i in sorted(range(len(group)), key=keyed.__getitem__)]
