"""LibriSpeech's layout: 26/495/26-495-0000.flac beside 26/495/26-495.trans.txt."""

from collections.abc import Iterator
from pathlib import Path

from echo.data.sources.columns import Columns
from echo.data.sources.files import file_utterance, read_lines
from echo.data.utterance import Utterance
from echo.errors import DataError

TRANSCRIPTS = "*.trans.txt"
SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")


def read_librispeech(folder: Path) -> Iterator[Utterance | DataError]:
    """Every line of every transcript file below the folder, in the order of their paths.

    The corpus writes its transcripts in capitals. That says nothing about the speech, and a
    tokenizer learnt on ordinary text breaks capitals into single letters; so a file that is all
    capitals is read in lower case.
    """
    for path in sorted(folder.rglob(TRANSCRIPTS)):
        lines = [line.strip().partition(" ") for line in read_lines(path)]
        capitals = " ".join(text for _, _, text in lines).isupper()
        for number, (utterance_id, _, text) in enumerate(lines, 1):
            if not utterance_id:  # a blank line
                continue
            record = {
                "id": utterance_id,
                "audio": recording(path.parent, utterance_id),
                "text": text.lower() if capitals else text,
                "speaker": utterance_id.split("-")[0],
            }
            yield file_utterance(record, Columns(), [path.parent], f"{path}:{number}")


def recording(folder: Path, utterance_id: str) -> str:
    """The name of the recording; the corpus's own where there is none, for the message."""
    names = [utterance_id + suffix for suffix in SUFFIXES]
    return next((name for name in names if (folder / name).is_file()), names[0])
