"""Recordings that a user names, as files or as folders of them, and their channels."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from echo.data.audio import CHANNELS, Audio, AudioChannel, AudioFile, channel_name
from echo.data.sound_file import named_like_audio, opened, refusal
from echo.support.errors import DataError
from echo.support.files import files_below

Channel = Literal["left", "right", "each"]


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Returns the files themselves, and what folders hold that is named like audio, in order of
    names; each of them once. What cannot be read is among them, so that it is named. Raises
    DataError where a file cannot be found, or a folder not be read, or holds none."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            path.stat()
            files = sorted(filter(named_like_audio, files_below(path))) if path.is_dir() else [path]
        except (OSError, ValueError) as error:
            place = Path(getattr(error, "filename", None) or path)
            raise DataError(f"{place}: {refusal(place, error)}") from None
        if not files:
            raise DataError(f"{path}: holds no recordings")
        found.update(dict.fromkeys(files))
    return list(found)


def heard_channels(path: Path, channel: Channel | None) -> list[tuple[Audio, str]]:
    """Returns what is to be heard of a recording, and what its transcript is called: all of it, one
    channel, or with "each" every channel, which its name then tells (`call.left`) where there are
    several. A file that cannot be read is itself returned."""
    if channel in CHANNELS:
        return [(AudioChannel(AudioFile(path), CHANNELS.index(channel)), path.stem)]
    count = 1
    if channel == "each":
        with suppress(DataError), opened(path, str(path)) as file:
            count = file.channels
    if count == 1:
        return [(AudioFile(path), path.stem)]
    return [
        (AudioChannel(AudioFile(path), number), f"{path.stem}.{channel_name(number)}")
        for number in range(count)
    ]
