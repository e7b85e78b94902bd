"""LibriSpeech's layout: 26/495/26-495-0000.flac beside 26/495/26-495.trans.txt."""

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from echo.data.sound_file import SUFFIXES
from echo.data.sources.files import Recordings, read_lines
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import Columns, Row, Rows
from echo.support.errors import DataError
from echo.support.files import files_below

TRANSCRIPTS = ".trans.txt"


class LibriSpeechReader(Reader):
    marks = (f"*{TRANSCRIPTS}",)

    def takes(self, spec: str) -> bool:
        return Path(spec).is_dir() and any(transcript_files(Path(spec)))

    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Yields every line of every transcript file below the folder, in the order of their paths.

        The corpus writes its transcripts in capitals. That says nothing about the speech, and a
        tokenizer learnt on ordinary text breaks capitals into single letters; so a file that is all
        capitals is read in lower case.
        """
        folder = Path(spec)
        for path in transcript_files(folder):
            try:
                lines = [line.strip().partition(" ") for line in read_lines(path)]
            except DataError as error:  # the other files can still be read
                yield error
                continue
            capitals = " ".join(text for _, _, text in lines).isupper()
            names = recordings_in(path.parent)
            recordings = Recordings((path.parent,), (folder.resolve(),), options.allow_outside)
            for number, (utterance_id, _, text) in enumerate(lines, 1):
                if not utterance_id:  # a blank line
                    continue
                record = {
                    "id": utterance_id,
                    # Where there is none, the message names the corpus's own.
                    "audio": names.get(normalize("NFC", utterance_id), utterance_id + SUFFIXES[0]),
                    "text": (text.lower() if capitals else text) or None,
                    "speaker": utterance_id.split("-")[0],
                }
                columns = Columns(needs_text=options.columns.needs_text)
                yield Row(f"{path}:{number}", record, recordings.of, columns)


def recordings_in(folder: Path) -> dict[str, str]:
    """Returns the names of a folder's recordings by those without suffix, in Unicode's NFC; the
    first suffix wins."""
    return {
        normalize("NFC", path.stem): path.name
        for suffix in reversed(SUFFIXES)
        for path in folder.glob(f"*{suffix}")
    }


def transcript_files(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.name.endswith(TRANSCRIPTS))
