"""Aligns a long recording with a text of it: which sentences are said, when, and how surely."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, NamedTuple

from echo.checkpoints.load import LoadedModel
from echo.data.prepare.filter.rules import Reason
from echo.data.voice import trim
from echo.evaluate.normaliser import Normaliser, normaliser
from echo.model.geometry import FRAMES_PER_SECOND
from echo.model.language import known_languages, spoken_language, written_language
from echo.support.errors import ConfigError
from echo.support.settings import Amount, PositiveAmount, Range
from echo.transcribe.align.alignment import Aligned, Alignment, Part, Row, Stretch
from echo.transcribe.align.anchors import Item, Matching, Words, read_words
from echo.transcribe.align.cuts import split_long
from echo.transcribe.align.emissions import Emissions, find_emissions
from echo.transcribe.align.recording import LongRecording
from echo.transcribe.align.texts import Sentence
from echo.transcribe.align.timing import NEAR, Clock, TimedText, fit_clock, same_places, windows
from echo.transcribe.transcribe import DEFAULTS, Transcriber, TranscribeSettings

logger = logging.getLogger(__name__)

MOST_PROBES, PROBE_EVERY = 8, 150.0  # places to listen to, by the seconds of a recording
WINDOW = 30.0  # seconds heard at once
PAUSE = 1.0  # seconds around a sentence in which its cut is looked for
LONGEST_PAUSE = 2.0  # seconds in a row between its sentences
LITTLE_VOICE = 0.2  # seconds of voice between sentences that are a noise
LEAST_VOICE = 1.0  # seconds of speech without a text that are worth a row


@dataclass(frozen=True)
class AlignSettings:
    """How texts are aligned, and what is kept."""

    # Rows are sentences joined up to so many seconds; longer sentences are cut.
    max_seconds: PositiveAmount = 30.0
    # Least log probability of a token, as the mean over a sentence; None is that for the model's
    # way of aligning.
    min_score: Annotated[float, Range(-100, 0)] | None = None
    # Most errors per word between a sentence and what is heard in its place.
    max_wer: Amount = 0.9


Plan = Matching | TimedText  # which words may be said in which piece of a recording


class Timed(NamedTuple):
    """A word in a recording. Times are in seconds from its beginning."""

    item: Item
    start: float
    end: float
    logprob: float
    tokens: int  # 0 if it could not be aligned


class Aligner:
    """A model, and how it aligns texts."""

    def __init__(
        self,
        emissions: Emissions,
        transcriber: Transcriber,
        normaliser: Normaliser,
        settings: AlignSettings,
    ) -> None:
        self.emissions, self.transcriber = emissions, transcriber
        self.normaliser, self.settings = normaliser, settings
        self.space = "" if normaliser.by_letters else " "  # between words
        self.longest = min(WINDOW, transcriber.limits.max_frames / FRAMES_PER_SECOND)
        self.least = emissions.least_score if settings.min_score is None else settings.min_score

    def align(self, path: Path, sentences: Sequence[Sentence]) -> Alignment:
        """Aligns a recording with its text. Raises DataError where the recording cannot be read."""
        recording = LongRecording(path, self.transcriber.voiced)
        words = [read_words(sentence.text, self.normaliser) for sentence in sentences]
        plan, pieces = self.by_times(recording, sentences, words) or self.by_words(recording, words)
        items = plan.items()
        timed = [self.time(recording, *each) for each in zip(pieces, items, strict=True)]
        found = self.judge(recording, plan, self.parts(timed), timed)
        rejected = [each for each in found if each.reasons]
        kept = [each for each in found if not each.reasons]
        if rejected:  # they moved the ends of what is beside them
            wrong = {
                (each.part.sentence, word)
                for each in rejected
                for word in range(each.part.first, each.part.end)
            }
            for i, new in enumerate(plan.items(wrong)):
                if new != items[i]:
                    timed[i] = self.time(recording, pieces[i], new)
            again = self.judge(recording, plan, [each.part for each in kept], timed)
            rejected += [each for each in again if each.reasons]
            kept = [each for each in again if not each.reasons]
        return Alignment(
            recording.seconds,
            sentences,
            kept,
            self.rows(recording, sentences, kept),
            rejected,
            plan.missing,
            self.unlabelled(recording, plan, kept, timed),
            self.space,
        )

    def by_words(
        self, recording: LongRecording, words: Sequence[Words]
    ) -> tuple[Plan, Sequence[Stretch]]:
        """Listens to a recording, and finds the text in what is heard."""
        pieces = self.hear(recording, recording.pieces(self.longest))
        heard = [read_words(piece.heard or "", self.normaliser) for piece in pieces]
        return Matching(words, heard), pieces

    def by_times(
        self, recording: LongRecording, sentences: Sequence[Sentence], words: Sequence[Words]
    ) -> tuple[Plan, Sequence[Stretch]] | None:
        """Cuts a recording by the times of its text; None where it has none that fit."""
        if any(each.start is None for each in sentences):
            return None
        clock = self.clock(recording, sentences, words)
        longest = max(end - start for start, end in (each.times() for each in sentences))
        if clock is None or clock.rate * longest > self.longest - 2 * NEAR:
            why = "do not fit" if clock is None else f"have lines of {longest:.0f} s"
            logger.warning("%s: the times of its text %s, and are not used", recording.audio, why)
            return None
        logger.info("%s: the times of its text: %s", recording.audio, clock)
        corrected = [clock.correct(each) for each in sentences]
        found = [*windows(recording, corrected, self.longest)]
        return TimedText(words, found), [Stretch(each.start, each.end) for each in found]

    def clock(
        self, recording: LongRecording, sentences: Sequence[Sentence], words: Sequence[Words]
    ) -> Clock | None:
        """Listens to a few places, and returns how the times of the text fit there."""
        number = min(MOST_PROBES, 1 + int(recording.seconds / PROBE_EVERY))
        middles = [(i + 0.5) * recording.seconds / number for i in range(number)]
        half = self.longest / 2
        places = ((max(0.0, at - half), min(recording.seconds, at + half)) for at in middles)
        said: list[tuple[str, float]] = []
        for piece in self.hear(recording, places):
            heard = read_words(piece.heard or "", self.normaliser)
            items = [Item(0, word) for word in heard.spelled]
            timed = self.time(recording, piece, items)
            said += [
                (token, (timed[owner].start + timed[owner].end) / 2)
                for token, owner in zip(heard.tokens, heard.owners, strict=True)
            ]
        told: list[tuple[str, float]] = []
        for sentence, own in zip(sentences, words, strict=True):
            start, end = sentence.times()
            told += [
                (token, start + (end - start) * (i + 0.5) / len(own.tokens))
                for i, token in enumerate(own.tokens)
            ]
        return fit_clock(same_places(told, said))

    def hear(
        self, recording: LongRecording, places: Iterable[tuple[float, float]]
    ) -> list[Stretch]:
        """Transcribes places of a recording, given by their start and end in seconds."""
        found: list[Stretch] = []
        iterator = iter(places)
        while batch := [
            (place, recording.samples(*place))
            for place in islice(iterator, self.transcriber.settings.batch_size)
        ]:
            heard = self.transcriber.transcribe([samples for _, samples in batch], lambda _: None)
            found += [
                Stretch(*place, transcript.text)
                for (place, _), transcript in zip(batch, heard, strict=True)
            ]
        return found

    def time(self, recording: LongRecording, piece: Stretch, items: Sequence[Item]) -> list[Timed]:
        """Returns when the words of a piece are said."""
        if not items:
            return []
        align = self.emissions.listen(recording.samples(piece.start, piece.end))
        said = align([item.text for item in items])
        if said is None:
            return [Timed(item, piece.start, piece.end, 0.0, 0) for item in items]
        return [
            Timed(item, piece.start + each.start, piece.start + each.end, *each[2:])
            for item, each in zip(items, said, strict=True)
        ]

    def parts(self, timed: Sequence[Sequence[Timed]]) -> list[Part]:
        """Returns the sentences, those that take too long in parts."""
        found: list[Part] = []
        sentences: dict[int, list[Timed]] = {}
        for each in chain(*timed):
            if each.item.place is not None:
                sentences.setdefault(each.item.place[0], []).append(each)
        for sentence, words in sentences.items():
            cuts = split_long([(w.start, w.end) for w in words], self.settings.max_seconds)
            found += [Part(sentence, *cut) for cut in cuts]
        return found

    def judge(
        self,
        recording: LongRecording,
        plan: Plan,
        parts: Sequence[Part],
        timed: Sequence[Sequence[Timed]],
    ) -> list[Aligned]:
        """Returns where each part is said, and why it is not kept, if it is not."""
        words = [*chain(*timed)]
        at = {each.item.place: i for i, each in enumerate(words)}
        places = [(at[p.sentence, p.first], at[p.sentence, p.end - 1]) for p in parts]
        middles = [(words[first].start + words[last].end) / 2 for first, last in places]
        middles = [0.0, *middles, recording.seconds]
        found = []
        for i, (part, (first, last)) in enumerate(zip(parts, places, strict=True)):
            own = words[first : last + 1]
            start, end = own[0].start, own[-1].end
            previous = words[first - 1].end if first else 0.0
            following = words[last + 1].start if last + 1 < len(words) else recording.seconds
            before = cut(recording, max(previous, start - PAUSE), start, *middles[i : i + 2])
            after = cut(recording, end, min(following, end + PAUSE), *middles[i + 1 : i + 3])
            tokens = sum(word.tokens for word in own)
            score = sum(word.logprob for word in own) / tokens if tokens else float("-inf")
            match = plan.match(part.sentence, part.first, part.end)
            text = plan.sentences[part.sentence].text(part.first, part.end)
            voice = recording.edges(before, after)
            found.append(Aligned(part, text, *voice, before, after, score, match))
        return [replace(each, reasons=tuple(self.reasons(each))) for each in found]

    def reasons(self, found: Aligned) -> list[Reason]:
        reasons = []
        if found.score == float("-inf"):
            reasons.append(Reason("length", "", "has more words than can be said there"))
        elif found.score < self.least:
            what = f"its tokens have a log probability of {found.score:.2f}, under {self.least:g}"
            reasons.append(Reason("score", round(found.score, 3), what))
        if found.match is not None and (wer := found.match.wer) > self.settings.max_wer:
            what = f"{wer:.0%} of its words are not what is heard"
            reasons.append(Reason("wer", round(wer, 3), what))
        return reasons

    def rows(
        self, recording: LongRecording, sentences: Sequence[Sentence], kept: Sequence[Aligned]
    ) -> list[Row]:
        """Joins what is kept up to the longest row, where nothing else is said in between."""
        joined: list[list[Aligned]] = []
        for each in kept:
            last = joined[-1] if joined else []
            if last and (
                sentences[last[-1].part.sentence].speaker == sentences[each.part.sentence].speaker
                and each.after - last[0].before <= self.settings.max_seconds
                and each.start - last[-1].end <= LONGEST_PAUSE
                and recording.voiced_seconds(last[-1].after, each.before) < LITTLE_VOICE
            ):
                last.append(each)
            else:
                joined.append([each])
        longest = self.settings.max_seconds
        return [Row.of(parts, sentences, self.space, longest) for parts in joined]

    def unlabelled(
        self,
        recording: LongRecording,
        plan: Plan,
        kept: Sequence[Aligned],
        timed: Sequence[Sequence[Timed]],
    ) -> list[Stretch]:
        """Returns where there is a voice but nothing is kept, in parts: of what the model listened
        to, those in which it heard words."""
        heard = [each for each in chain(*timed) if each.item.place is None]
        starts = [0.0, *(each.after for each in kept)]
        ends = [*(each.before for each in kept), recording.seconds]
        found = []
        for start, end in zip(starts, ends, strict=True):
            if recording.voiced_seconds(start, end) < LEAST_VOICE:
                continue
            for part in recording.split(start, end, self.settings.max_seconds):
                a, b = trim(*part, recording.voice)
                text = [w.item.text for w in heard if part[0] <= (w.start + w.end) / 2 < part[1]]
                if recording.voiced_seconds(a, b) and (any(text) or not plan.is_heard):
                    found.append(Stretch(a, b, self.space.join(filter(None, text))))
        return found


def cut(
    recording: LongRecording, start: float, end: float, earliest: float, latest: float
) -> float:
    """Returns the quietest point between two times or around them, but none beyond the middles of
    the sentences beside it: a short one would be outside its row."""
    found = recording.quietest(start, end)
    return found if earliest < found < latest else recording.quietest(start, end, 0.0)


def aligner_of(
    loaded: LoadedModel,
    source: str,
    settings: AlignSettings,
    hearing: TranscribeSettings = DEFAULTS,
) -> Aligner:
    """Returns a model as an aligner, which hears in its language what `hearing` says how.
    ConfigError, which begins with `source`, where the model cannot align, or is multilingual and
    was told no language."""
    generation = loaded.model.generation_config
    language = spoken_language(generation) if known_languages(generation) else None
    if known_languages(generation) and language is None:
        raise ConfigError(f"{source}: is multilingual: name the language of the recordings")
    normalise = normaliser(written_language(loaded.model), loaded.tokenizer)
    transcriber = Transcriber(loaded, replace(hearing, language=language))
    emissions = find_emissions(loaded, normalise, transcriber.voiced, source)
    return Aligner(emissions, transcriber, normalise, settings)
