"""A folder of recordings that nothing says anything of."""

from pathlib import Path

from echo.data.sound_file import named_like_audio
from echo.data.sources.files import Recordings
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import Row, Rows
from echo.support.files import files_below


class RecordingsReader(Reader):
    """For commands that need no texts: it takes every folder."""

    def takes(self, spec: str) -> bool:
        return Path(spec).is_dir()

    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Yields a row for each file below the folder that is named like audio, in order of
        names."""
        folder = Path(spec)
        files = Recordings((folder,), (folder.resolve(),), options.allow_outside)
        for path in filter(named_like_audio, files_below(folder)):
            record = {"audio_filepath": str(path.relative_to(folder))}
            yield Row(str(path), record, files.of, options.columns)
