"""Recordings whose headers lie, or that cannot be opened."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from echo.data.audio import AudioArray, AudioBytes, AudioFile, header_duration
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


SECOND = np.random.default_rng(0).standard_normal((3, 16_000)).astype(np.float32) / 10
A, B, HUM = SECOND
TWICE, TURNED = np.concatenate([A, A]), np.concatenate([A, -A])


@pytest.mark.parametrize(
    ("channels", "mono"),
    [
        ([A, -A], A),
        ([A, -0.9 * A], 0.95 * A),
        ([A, -A / 2, -A / 2], 2 * A / 3),
        ([A + HUM / 4, -A + HUM / 4], A),  # only the hum would be left
        ([A, -A, A, -A], A),
        ([A, -A, A / 10 + B / 2], (21 * A + 5 * B) / 30),
        ([TWICE, 0.9 * TURNED], TWICE),  # the phase changes half-way
        ([A, B], (A + B) / 2),
        ([A, 0 * A], A / 2),
        ([A / 10 + 0.2, B / 10 - 0.2], (A + B) / 20),  # offsets cancel, sound does not
        ([np.concatenate([A, A / 100]), np.concatenate([A, -A / 100])], np.concatenate([A, 0 * A])),
    ],
)
def test_channels_do_not_cancel_each_other(tmp_path: Path, channels: list, mono: list) -> None:
    """However a recording comes in."""
    samples = np.stack(channels).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples.T, 16_000, subtype="FLOAT")
    for audio in (
        AudioFile(path),
        AudioBytes(path.read_bytes(), "a"),
        AudioArray(samples, 16_000, "a"),
    ):
        torch.testing.assert_close(audio.load(), torch.tensor(mono, dtype=torch.float32))


def test_opposite_channels_of_a_lossy_format(tmp_path: Path, shared: Path) -> None:
    folder = shared / "data/librispeech"
    line = json.loads((folder / "dev.jsonl").read_text().splitlines()[0])
    speech = AudioFile(folder / line["audio_filepath"]).load().numpy()
    expected = np.square(speech).mean()
    for name in ("a.mp3", "a.ogg", "a.opus"):
        found = AudioFile(write(tmp_path / name, np.stack([speech, -speech], 1))).load()
        assert found.square().mean().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_floats_on_the_scale_of_integers_are_refused(tmp_path: Path, bits: int) -> None:
    samples = np.clip(A, -1, 1) * 2.0 ** (bits - 1)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    found = refusals(path)
    assert found[:2] == ["1.0"] * 2
    assert all("but full scale is 1" in refusal for refusal in found[2:])
    with pytest.raises(DataError, match="but full scale is 1"):
        AudioArray(samples, 16_000, "a").load()
    loud = 4 * A  # clips, and is still what was recorded
    assert torch.equal(AudioArray(loud, 16_000, "a").load(), torch.from_numpy(loud))


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_an_array_may_have_its_channels_first_or_last(tmp_path: Path, channels: int) -> None:
    samples = np.stack([A / (i + 1) for i in range(channels)])
    expected = samples.mean(0)
    for array in (samples, samples.T, samples.T.astype(np.float64), np.asfortranarray(samples)):
        audio = AudioArray(array, 16_000, "a")
        assert audio.seconds() == 1.0
        torch.testing.assert_close(audio.load(), torch.from_numpy(expected))


@pytest.mark.parametrize("shape", [(), (100, 300), (300, 100), (2, 100, 1)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        AudioArray(np.zeros(shape), 16_000, "a").load()
    assert str(caught.value).startswith(f"a: an array of the shape {shape} is no recording")


def test_an_array_of_integers_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a: samples must be floats from -1 to 1, not int16$"):
        AudioArray((A * 2**15).astype(np.int16), 16_000, "a").load()


def test_a_file_of_hundreds_of_channels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((100, 300)))
    assert refusals(path)[2:] == ["the recording has 300 channels, more than 64"] * 2
