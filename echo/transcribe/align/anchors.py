"""Which words of a text are said where, by what a model heard in the pieces of a recording."""

import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import regex

from echo.evaluate.alignment import DELETION, HIT, INSERTION, SUBSTITUTION, align
from echo.evaluate.normaliser import Normaliser

Place = tuple[int, int]  # of a word: the number of its sentence or piece, and its own
RUN = 3  # equal words in a row are an anchor; fewer are equal by chance


@dataclass(frozen=True)
class Words:
    """A text's words as they are spelled, and as the normaliser writes them."""

    spaced: tuple[str, ...]  # as they are spelled, with the spaces before them
    spelled: tuple[str, ...]
    tokens: tuple[str, ...]
    owners: tuple[int, ...]  # of each token, the number of a spelled word

    def text(self, first: int, end: int) -> str:
        """Returns the words from one to before another, as the text has them."""
        return "".join(self.spaced[first:end]).strip()


def read_words(text: str, normaliser: Normaliser) -> Words:
    """Returns the words of a text. Spoken and written numbers have the same tokens."""
    # Where words are letters, most have no space before them.
    parts = r"\s*\X" if normaliser.by_letters else r"\s*\S+"
    spaced = regex.findall(parts, " ".join(text.split()))
    spelled = [each.strip() for each in spaced]
    each = [normalise(word, normaliser) for word in spelled]
    single = [token for tokens in each for token in tokens]
    owners = [i for i, tokens in enumerate(each) for _ in tokens]
    whole = tokens_of(text, normaliser)
    if single != whole and single and whole:  # several words may be one number
        [found] = align([" ".join(single)], [" ".join(whole)])
        moved, place = [], 0
        for kind in found.kinds:
            if kind != DELETION:
                moved.append(owners[min(place, len(owners) - 1)])
            place += kind != INSERTION
        owners = moved
    elif single != whole:
        owners = [0] * len(whole) if spelled else []
    return Words(tuple(spaced), tuple(spelled), tuple(whole if owners else ()), tuple(owners))


@lru_cache(maxsize=100_000)  # most words come again, and a rule may take a millisecond
def normalise(word: str, normaliser: Normaliser) -> tuple[str, ...]:
    return tuple(tokens_of(word, normaliser))


def tokens_of(text: str, normaliser: Normaliser) -> list[str]:
    """Returns the words of a normalised text, of numbers each digit: digits that are said one by
    one may be heard as several numbers, or all but one of them."""
    # Whisper's normaliser writes a 1 that stands alone as a word.
    words = ["1" if word == "one" else word for word in normaliser(text).split()]
    return [part for word in words for part in (word if word.isdecimal() else [word])]


@dataclass
class Match:
    """Some words of a text beside what was heard in their place."""

    tokens: int = 0
    unheard: int = 0  # tokens for which nothing was heard
    errors: int = 0
    heard: tuple[str, ...] = ()

    @property
    def wer(self) -> float:
        return self.errors / max(1, self.tokens)

    @property
    def is_said(self) -> bool:
        """Whether something was heard for most of it."""
        return 2 * self.unheard < self.tokens


class Item(NamedTuple):
    """A word in a piece of a recording: of the text, or one that was heard beside it."""

    piece: int | None  # None if nothing was heard for it
    text: str
    place: Place | None = None


class Step(NamedTuple):
    """A pair of tokens of the text and of what was heard, of which one may be missing."""

    kind: str
    text: Place | None
    heard: Place | None  # in a piece, as in a sentence


class Matching:
    """A text aligned with what was heard, both by words."""

    is_heard = True  # whether the model listened to all of it

    def __init__(self, sentences: Sequence[Words], pieces: Sequence[Words]) -> None:
        self.sentences, self.pieces = sentences, pieces
        said, heard = places(sentences), places(pieces)
        texts = [
            " ".join(token for words in side for token in words.tokens)
            for side in (sentences, pieces)
        ]
        [found] = align(texts[:1], texts[1:])
        self.steps = []
        for kind in found.kinds:
            text = None if kind == INSERTION else next(said)
            self.steps.append(Step(kind, text, None if kind == DELETION else next(heard)))
        # From the last on: a sentence that is gathered may have fewer steps.
        for first, last in reversed(spans(self.steps).values()):
            self.steps[first : last + 1] = gathered(self.steps[first : last + 1])
        self.spans = spans(self.steps)
        self.missing = [i for i in range(len(sentences)) if not self.match(i).is_said]

    def match(self, sentence: int, first: int = 0, end: int = sys.maxsize) -> Match:
        """Returns what was heard for the words of a sentence from one to before another, and
        between them."""
        found = Match()
        heard: list[Place] = []
        between: list[Place] = []
        start, last = self.spans.get(sentence, (0, -1))
        for step in self.steps[start : last + 1]:
            if step.text is None:
                between += [step.heard] if step.heard else []
                continue
            is_in = first <= step.text[1] < end
            if is_in:
                if found.tokens:
                    heard += between
                    found.errors += len(between)
                heard += [step.heard] if step.heard else []
                found.tokens += 1
                found.errors += step.kind != HIT
                found.unheard += step.kind == DELETION
            between = []
        found.heard = tuple(self.pieces[i].spelled[j] for i, j in dict.fromkeys(heard))
        return found

    def items(self, wrong: Collection[Place] = ()) -> list[list[Item]]:
        """Returns the words of each piece in order: those of the text, and what was heard where
        the text has nothing, or what is wrong. Of one or two words that are heard beside the text,
        most are the model's mistakes, so these are left out."""
        missing = {*self.missing}
        said: dict[Place, int] = {}  # the piece in which a word is heard
        before: dict[Place | None, list[Item]] = defaultdict(list)  # what is heard before it
        beside: list[Item] = []
        sure = False  # that these were said
        last: Place | None = None
        for step in (*self.steps, END):
            is_new, last = step.heard not in (None, last), step.heard or last
            if step != END and (step.text is None or step.text[0] in missing or step.text in wrong):
                if is_new and step.heard:
                    piece, word = step.heard
                    beside.append(Item(piece, self.pieces[piece].spelled[word]))
                    sure |= step.text in wrong
                continue
            before[step.text] += beside if sure or len(beside) >= RUN else []
            beside, sure = [], False
            if step.text and step.heard:
                said.setdefault(step.text, step.heard[0])
        found = []
        for sentence, words in enumerate(self.sentences):
            for word, text in enumerate(words.spelled):
                place = sentence, word
                found += before[place]
                if sentence not in missing and place not in wrong:
                    found.append(Item(said.get(place), text, place))
        return by_piece(found + before[None], len(self.pieces))


END = Step(HIT, None, None)


def spans(steps: Sequence[Step]) -> dict[int, tuple[int, int]]:
    """Returns the first and last step of each sentence."""
    found: dict[int, tuple[int, int]] = {}
    for i, step in enumerate(steps):
        if step.text is not None:
            first, _ = found.get(step.text[0], (i, i))
            found[step.text[0]] = (first, i)
    return found


def gathered(steps: list[Step]) -> list[Step]:
    """Returns the steps of a sentence without words that equal by chance some that are said long
    before or after it: where its beginning or end has no anchor, and other speech is between that
    and the rest, it goes to the rest."""
    for _ in range(2):  # the beginning, and then the end in the same way
        outside: list[Step] = []
        while (last := end_of_other_speech(steps)) is not None:
            said = [step.text for step in steps[:last] if step.text is not None]
            heard = [step.heard for step in steps[:last] if step.heard is not None]
            outside += [Step(INSERTION, None, each) for each in heard[: -len(said)]]
            moved = zip(said, heard[-len(said) :], strict=True)
            steps = [*(Step(SUBSTITUTION, *each) for each in moved), *steps[last:]]
        steps = [*outside, *steps][::-1]
    return steps


def end_of_other_speech(steps: Sequence[Step]) -> int | None:
    """Returns the first step of the rest of a sentence after a beginning by chance; None if there
    is none, or if it has more words than are between."""
    first = next(
        (i for i in range(len(steps)) if not any(step.text for step in steps[i : i + RUN])), None
    )
    if first is None or has_anchor(steps[:first]) or not has_anchor(steps[first:]):
        return None
    last = next(i for i in range(first, len(steps)) if steps[i].text is not None)
    return last if sum(step.text is not None for step in steps[:first]) <= last - first else None


def has_anchor(steps: Sequence[Step]) -> bool:
    return "".join(step.kind for step in steps).find(HIT * RUN) >= 0


def places(side: Sequence[Words]) -> Iterator[Place]:
    return ((i, owner) for i, words in enumerate(side) for owner in words.owners)


def by_piece(items: Sequence[Item], count: int) -> list[list[Item]]:
    """Returns the items of each piece. Those for which nothing was heard are where the word before
    them in their sentence is, or else where the next word is."""
    found: list[list[Item]] = [[] for _ in range(count)]
    later = [0] * len(items)
    piece = count - 1
    for i in reversed(range(len(items))):
        known = items[i].piece
        piece = later[i] = piece if known is None else known
    piece = 0
    sentence: int | None = None
    for item, following in zip(items, later, strict=True):
        own = item.place and item.place[0]
        if item.piece is not None:
            piece = item.piece
        elif own != sentence:
            piece = following
        found[piece].append(item)
        sentence = own
    return found
