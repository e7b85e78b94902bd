"""Recordings and the texts of them, paired by their names."""

from collections import defaultdict
from pathlib import Path

from echo.data.sound_file import named_like_audio, refusal
from echo.support.errors import ConfigError, DataError
from echo.support.files import files_below
from echo.transcribe.align.texts import READERS

Pair = tuple[Path, Path]


def find_pairs(audio: Path, text: Path) -> tuple[list[Pair], list[DataError]]:
    """Returns pairs of a recording and its text: the two files, or those of the same name but for
    the suffix in two folders, and why others have no pair.

    Raises:
        ConfigError: one is a file and the other a folder.
        DataError: one cannot be found or read, or nothing in the folders is paired.
    """
    for path in (audio, text):
        try:
            path.stat()
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError | ValueError)
            raise DataError(
                f"{path}: {'no such file' if missing else refusal(path, error)}"
            ) from None
    if audio.is_dir() != text.is_dir():
        raise ConfigError(f"{audio} and {text} must be two files, or two folders")
    if not audio.is_dir():
        return [(audio, text)], []
    recordings = by_name(audio, [p for p in files_below(audio) if named_like_audio(p)])
    texts = by_name(text, [p for p in files_below(text) if p.suffix.lower() in READERS])
    pairs: list[Pair] = []
    problems: list[DataError] = []
    for name in sorted({*recordings, *texts}):
        sides = (recordings[name], texts[name])
        if all(len(side) == 1 for side in sides):
            pairs.append((sides[0][0], sides[1][0]))
            continue
        for side, kind in zip(sides, ("recording", "text"), strict=True):
            if len(side) > 1:
                names = ", ".join(path.name for path in side)
                problems.append(DataError(f"{side[0]}: {len(side)} {kind}s have its name: {names}"))
            elif not side:
                other = sides[0] or sides[1]
                problems.append(DataError(f"{other[0]}: there is no {kind} of this name"))
    if not pairs:
        first = f"; the first problem is {problems[0]}" if problems else ""
        raise DataError(f"{audio} and {text}: hold no recording and text of the same name{first}")
    return pairs, problems


def by_name(folder: Path, paths: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[str(path.relative_to(folder).with_suffix(""))].append(path)
    return found
