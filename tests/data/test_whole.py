"""A recording is heard to its end, or refused by name: never to the first end only."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from echo.data.audio import AudioBytes, AudioFile
from echo.data.whole import not_heard
from echo.support.errors import DataError
from tests.data.recordings import tone

TAG = b"TAG" + bytes(125)  # ID3v1
LONG_TAG = b"ID3\4\0\0" + bytes([0, 1, 0, 0]) + bytes(128 * 128)  # ID3v2, with a picture, say


def content(suffix: str, seconds: float = 1.0, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    kind = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "rf64": ("RF64", None)}
    format, subtype = kind.get(suffix, (suffix.upper(), None))
    soundfile.write(file, tone(seconds, rate), rate, subtype, format=format)
    return file.getvalue()


def without_table(mp3: bytes) -> bytes:
    """Without the frame that gives the number of frames, as streams are recorded."""
    assert b"Xing" in mp3[:60]
    return mp3[mp3.index(mp3[:2], 200) :]


def sized(size: int) -> bytes:
    """A WAV file of a second, whose header claims so many bytes."""
    wav = bytearray(content("wav"))
    wav[40:44] = struct.pack("<I", size)
    return bytes(wav)


MP3 = content("mp3")
PLAIN_MP3 = without_table(MP3)
JOINED = {
    "MP3": MP3 + MP3,
    "MP3, tags between": MP3 + TAG + LONG_TAG + MP3 + TAG,
    "MP3, the second short": MP3 + LONG_TAG + content("mp3", 0.3),
    "MP3, no number of frames": PLAIN_MP3 + LONG_TAG[:100] + PLAIN_MP3,
    "MP3, of another kind": MP3 + content("mp3", 1, 44_100),
    **{name: content(name) + content(name, 0.3) for name in ("ogg", "opus", "flac", "caf", "au")},
    "FLAC, a tag between": content("flac") + LONG_TAG + content("flac"),
    "Vorbis and Opus": content("ogg") + content("opus"),
    "WAV": content("wav") + content("wav"),
    "RF64": content("rf64") + content("wav"),
    "WAV and MP3": content("wav") + MP3,
    "WAV, half claimed": sized(16_000),
    "WAV, nothing claimed": sized(0),
    "WAV, cut": content("wav")[:20_000],
    "MP3, cut": MP3[: len(MP3) // 2],
}
WHOLE = {
    "MP3 with tags": LONG_TAG + MP3 + TAG,
    "WAV with chunks": content("wav") + b"LIST" + struct.pack("<I", 2000) + bytes(range(250)) * 8,
    "WAV with a tag": content("wav") + LONG_TAG,
    "padded WAV": content("wav") + bytes(5000),
    "WAV of a pipe": sized(0xFFFFFFFF),
    "WAV of another pipe": sized(0x7FFFF000),
    "RF64": content("rf64"),
    **{name: content(name) for name in ("mp3", "ogg", "opus", "flac", "wav", "caf", "au", "aiff")},
}


@pytest.mark.parametrize("name", JOINED)
def test_what_would_be_heard_to_the_first_end_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(JOINED[name])
    for audio in (AudioFile(path), AudioBytes(JOINED[name], "a")):
        with pytest.raises(DataError, match=r"^(?!.*\n).*a: "):
            audio.load()


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_heard_whole_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(WHOLE[name])
    for audio in (AudioFile(path), AudioBytes(WHOLE[name], "a")):
        assert len(audio.load()) == pytest.approx(16_000, abs=1000)


def test_big_endian_wav(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000, endian="BIG")
    assert (tmp_path / "a.wav").read_bytes().startswith(b"RIFX")
    assert len(AudioFile(tmp_path / "a.wav").load()) == 16_000


def test_streams_at_a_time_are_not_one_after_another() -> None:
    """As in Ogg video, whose first pages all come first."""
    first, later = b"OggS\0\2" + bytes(100), b"OggS\0\0" + bytes(100)
    assert not_heard(first + first + later + later, "OGG", 1.0) is None
    assert not_heard(first + later + first + later, "OGG", 1.0) is not None


@pytest.mark.parametrize("bitrate", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_frames_of_mp3_last_as_long_as_what_is_heard(
    tmp_path: Path, rate: int, bitrate: str
) -> None:
    noise = np.random.default_rng(0).standard_normal((2 * rate, 2)) / 10
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise, rate, bitrate_mode=bitrate, compression_level=0.5)
    assert AudioFile(path).read()[0].shape[1] == pytest.approx(2 * rate, abs=100)
