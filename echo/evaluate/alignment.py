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
    """Aligns each reference with its hypothesis, as the word error rate counts: by letters in a
    language without spaces between words."""
    split = letters if by_letters else str.split
    said, heard = [tuple(split(t)) for t in references], [tuple(split(t)) for t in hypotheses]
    output = jiwer.process_words([*map(" ".join, said)], [*map(" ".join, heard)])
    return [
        Alignment(r, h, "".join(map(kinds, chunks)))
        for r, h, chunks in zip(said, heard, output.alignments, strict=False)  # one for none
    ]


def kinds(chunk: jiwer.AlignmentChunk) -> str:
    """A letter for each pair of a chunk, whose words all have one kind."""
    length = max(
        chunk.ref_end_idx - chunk.ref_start_idx,
        chunk.hyp_end_idx - chunk.hyp_start_idx,
    )
    return KINDS[chunk.type] * length
