"""Which word stands for which: references and hypotheses aligned by least edits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jiwer

from echo.evaluate.normaliser import letters

HIT, SUBSTITUTION, DELETION, INSERTION = "=sdi"
KINDS = {"equal": HIT, "substitute": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}


@dataclass(frozen=True)
class Alignment:
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    kinds: str  # a letter of "=sdi" for each pair, in order

    @property
    def errors(self) -> int:
        return len(self.kinds) - self.kinds.count(HIT)

    def pairs(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Yields the kind, the reference's word and the hypothesis's; None where there is none."""
        said, heard = iter(self.reference), iter(self.hypothesis)
        for kind in self.kinds:
            yield (
                kind,
                None if kind == INSERTION else next(said),
                None if kind == DELETION else next(heard),
            )


def align(
    references: Sequence[str], hypotheses: Sequence[str], by_letters: bool = False
) -> list[Alignment]:
    """Aligns each reference with its hypothesis, as the word error rate counts.

    Args:
        by_letters: whether the language has no spaces between words, so that letters are counted.
    """
    split = letters if by_letters else str.split
    pairs = [
        (tuple(split(r)), tuple(split(h))) for r, h in zip(references, hypotheses, strict=True)
    ]
    # jiwer takes no empty reference, where every word is an insertion.
    spoken = [(r, h) for r, h in pairs if r]
    found: Iterator[list[jiwer.AlignmentChunk]] = iter(())
    if spoken:
        output = jiwer.process_words(
            [" ".join(r) for r, _ in spoken], [" ".join(h) for _, h in spoken]
        )
        found = iter(output.alignments)
    return [
        Alignment(r, h, "".join(map(kinds, next(found))) if r else INSERTION * len(h))
        for r, h in pairs
    ]


def kinds(chunk: jiwer.AlignmentChunk) -> str:
    """A letter for each pair of a chunk, whose words all have one kind."""
    length = max(
        chunk.ref_end_idx - chunk.ref_start_idx,
        chunk.hyp_end_idx - chunk.hyp_start_idx,
    )
    return KINDS[chunk.type] * length
