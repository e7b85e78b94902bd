"""Recordings whose headers lie, or that cannot be opened."""

import io
from pathlib import Path

import pytest

from echo.data.audio import AudioBytes, AudioFile, header_duration
from echo.support.errors import DataError
from tests.data.recordings import write


def refusals(path: Path) -> list[str]:
    """What its header is refused with, and itself, as a file and as bytes; or the seconds."""
    content = path.read_bytes()
    found = []
    for look in (
        lambda: header_duration(path),
        lambda: header_duration(io.BytesIO(content), str(path)),
        AudioFile(path).load,
        AudioBytes(content, str(path)).load,
    ):
        try:
            found.append(str(look()))
        except DataError as error:
            found.append(str(error).removeprefix(f"{path}: "))
    return found


def test_flac_without_a_length(tmp_path: Path) -> None:
    """As ffmpeg writes it into a pipe: the header says zero samples in all."""
    path = write(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert refusals(path) == ["the header gives no length: convert the recording again"] * 4


def test_length_beyond_all_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    for refusal in refusals(path)[2:]:
        assert refusal.startswith("cannot be read as audio (")


def test_rate_beyond_all_audio(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    content[24:28] = (1_999_999_975).to_bytes(4, "little")
    path.write_bytes(content)
    assert refusals(path)[2:] == ["the recording has an invalid rate of 1999999975 Hz"] * 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.wav", "no such recording"),
        ("a\0b.wav", "no such recording"),
        ("\ud800.wav", "no such recording"),
        ("x" * 300, "cannot be read (File name too long)"),
        (".", "cannot be read (Is a directory)"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    for look in (lambda: header_duration(path), AudioFile(path).load):
        with pytest.raises(DataError) as caught:
            look()
        assert str(caught.value) == f"{path}: {reason}"
