"""Connected digits joined from the Free Spoken Digit Dataset: real speech for small runs."""

import random
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from echo.config import Split
from echo.data.audio import AudioFile, JoinedAudio
from echo.data.corpora.phrases import DIGITS
from echo.data.sound_file import header_duration
from echo.data.utterance import Utterance
from echo.support.errors import DataError

FILE_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d|[1-4]\d)\.wav", re.ASCII)
TEST_INDICES = range(5)  # the data set's own split
TRAIN_INDICES = range(5, 50)
DEV_INDICES = range(5, 10)  # held out of training to choose settings by
MAX_DIGITS = 6  # in one utterance
MAX_PAUSE = 0.2  # seconds of silence before a digit, at most


@dataclass(frozen=True)
class Recording(AudioFile):
    """One spoken digit, decoded at its first use and then kept."""

    word: str
    duration: float

    def __str__(self) -> str:
        return self.path.name

    def load(self) -> torch.Tensor:
        return _samples(self.path)


@lru_cache(maxsize=4096)
def _samples(path: Path) -> torch.Tensor:
    # Every epoch joins the same recordings anew. All 3,000 take 84 MB, in each worker that
    # decodes; joining copies them, so what is kept here is never changed.
    return AudioFile(path).load()


class ConnectedDigits:
    """A corpus of 1 to 6 digits in a row, each row in one speaker's voice, joined from the data
    set's folder `root`, which holds `recordings/{digit}_{speaker}_{index}.wav`.

    An epoch says every training recording (indices 5-49, or 10-49 with the dev split) exactly once,
    in rows that are new in each epoch and depend on `seed` and the epoch's number alone. The
    evaluation set is joined from indices 0-4 (dev: 5-9) and is the same whatever the seed: it takes
    each recording once per pass, in as many passes as it needs for `eval_utterances` rows or more.

    Raises:
        DataError: the folder, or any recording of any of its speakers, is missing or misnamed.
    """

    def __init__(
        self, root: Path, seed: int = 0, eval_utterances: int = 600, split: Split = "test"
    ) -> None:
        recordings = read_recordings(root / "recordings")
        self._seed = seed
        evaluated = DEV_INDICES if split == "dev" else TEST_INDICES
        trained = [index for index in TRAIN_INDICES if index not in evaluated]
        self._train = _select(recordings, trained)
        measured = _select(recordings, evaluated)
        rng = random.Random("eval")
        self._eval: list[Utterance] = []
        while len(self._eval) < eval_utterances:
            self._eval += _join(measured, rng, "eval", start=len(self._eval))

    def train_epoch(self, epoch: int) -> Sequence[Utterance]:
        return _join(self._train, random.Random(f"{self._seed}-{epoch}"), f"train-{epoch}")

    def eval_utterances(self) -> Sequence[Utterance]:
        return self._eval


def read_recordings(folder: Path) -> dict[str, dict[tuple[int, int], Recording]]:
    """Reads names and headers of a complete data set: speaker -> (digit, index) -> recording."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".wav")
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no such folder (the Free Spoken Digit Dataset has one)"
        ) from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    speakers: dict[str, dict[tuple[int, int], Recording]] = defaultdict(dict)
    for path in paths:
        name = FILE_NAME.fullmatch(path.name)
        if name is None:
            raise DataError(
                f"{path}: not named as the Free Spoken Digit Dataset names its recordings, "
                f"{{digit}}_{{speaker}}_{{index 0-49}}.wav"
            )
        digit = int(name["digit"])
        recording = Recording(path, DIGITS[digit], header_duration(path))
        speakers[name["speaker"]][digit, int(name["index"])] = recording
    if not speakers:
        raise DataError(f"{folder}: holds no .wav recordings")
    expected = [(digit, index) for digit in range(10) for index in (*TEST_INDICES, *TRAIN_INDICES)]
    for speaker, found in speakers.items():
        missing = [f"{d}_{speaker}_{i}.wav" for d, i in expected if (d, i) not in found]
        if missing:
            raise DataError(
                f"{folder}: {speaker} lacks {len(missing)} of {len(expected)} recordings, "
                f"first {missing[0]}"
            )
    return dict(speakers)


def _select(
    recordings: dict[str, dict[tuple[int, int], Recording]], indices: Collection[int]
) -> dict[str, list[Recording]]:
    return {
        speaker: [recording for (_, index), recording in sorted(own.items()) if index in indices]
        for speaker, own in sorted(recordings.items())
    }


def _join(
    recordings: dict[str, list[Recording]], rng: random.Random, name: str, start: int = 0
) -> list[Utterance]:
    """Joins every recording into one row, speaker by speaker, and shuffles the rows."""
    rows: list[tuple[str, list[Recording]]] = []
    for speaker, own in recordings.items():
        shuffled = rng.sample(own, len(own))
        while shuffled:
            length = rng.randint(1, MAX_DIGITS)
            rows.append((speaker, shuffled[:length]))
            shuffled = shuffled[length:]
    rng.shuffle(rows)
    utterances = []
    for number, (speaker, row) in enumerate(rows, start):
        pauses = tuple(rng.uniform(0, MAX_PAUSE) for _ in row)
        utterances.append(
            Utterance(
                id=f"{name}-{number}",
                audio=JoinedAudio(tuple(row), pauses),
                text=" ".join(recording.word for recording in row),
                duration=sum(recording.duration for recording in row) + sum(pauses),
                speaker=speaker,
                where="+".join(map(str, row)),
            )
        )
    return utterances
