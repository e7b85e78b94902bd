"""Recordings whose headers lie, or that cannot be opened."""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from echo.data.audio import AudioArray, AudioBytes, AudioFile, AudioSlice
from echo.data.mixing import resampler
from echo.data.sound_file import header_duration
from echo.support.errors import DataError
from tests.data.recordings import tone, write


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


FORMATS = [".wav", ".flac", ".ogg", ".mp3", ".opus"]
ALLOWED = {".mp3": 1e-5, ".opus": 1e-3}  # the others are equal to the bit


def speech(shared: Path) -> np.ndarray:
    """(samples,) of 16 s of read speech at 16 kHz."""
    folder = shared / "data/librispeech"
    lines = (folder / "train.jsonl").read_text().splitlines()[:2]
    found = [AudioFile(folder / json.loads(line)["audio_filepath"]).load() for line in lines]
    return torch.cat(found)[: 16 * 16_000].numpy()


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_slice_is_as_in_the_whole(
    tmp_path: Path, shared: Path, suffix: str, rate: int, channels: int, capfd
) -> None:
    if suffix == ".opus" and rate == 44_100:
        rate = 48_000  # Opus has no 44.1 kHz
    samples = torch.from_numpy(speech(shared))
    samples = samples if rate == 16_000 else resampler(16_000, rate)(samples)
    path = write(tmp_path / f"a{suffix}", np.stack([samples, samples / 2][:channels], 1), rate)
    decoded, _ = AudioFile(path).read()
    mono = AudioFile(path).load()
    seconds = decoded.shape[1] / rate
    places = [(0, 1.25), (0.0101, 0.5), (12.3456, 14.5), (seconds - 1.5, seconds), (13, None)]
    wholes = [AudioFile(path), AudioBytes(path.read_bytes(), "a")] * 3
    for whole, (start, end) in zip(wholes, places, strict=False):
        part = AudioSlice(whole, start, end)
        last = seconds if end is None else end
        found, its_rate = part.read()
        expected = decoded[:, round(start * rate) : round(last * rate)]
        assert its_rate == rate
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= ALLOWED.get(suffix, 0)
        expected = mono[round(start * 16_000) : round(last * 16_000)]
        heard = part.load()
        length = min(len(heard), len(expected))
        assert max(len(heard), len(expected)) - length <= (end is None)
        difference = (heard[:length] - expected[:length]).abs().max()
        assert difference <= ALLOWED.get(suffix, 1e-6)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_056, 96_000])
def test_slices_join_without_a_seam(rate: int) -> None:
    """At any rate: resampling does not hear that a recording was cut."""
    noise = np.random.default_rng(0).standard_normal((2, 3 * rate)).astype(np.float32) / 10
    whole = AudioArray(noise, rate, "a")
    cuts = [0, 0.3333, 1.01, 1.0107, 2.5, 3]
    parts = [AudioSlice(whole, *pair).load() for pair in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts), whole.load(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", FORMATS)
def test_of_a_long_recording_only_the_slice_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch
) -> None:
    path = write(tmp_path / f"a{suffix}", tone(30, 8000), 8000)
    counts = []
    read = soundfile.SoundFile.read

    def counting(self, frames=-1, *args, **options):
        counts.append(frames)
        return read(self, frames, *args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    assert len(AudioSlice(AudioFile(path), 20, 21).load()) == 16_000
    assert 8_000 <= sum(counts) < 10 * 8_000


@pytest.mark.parametrize(("start", "end"), [(1, None), (5, 6), (0.5, 1.1), (0.5, 0.50001)])
def test_a_slice_that_is_not_there(tmp_path: Path, start: float, end: float | None) -> None:
    path = write(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"a.wav from .*(past the end .* lasts 1.000 s|no sample)"):
        AudioSlice(AudioFile(path), start, end).load()
    assert len(AudioSlice(AudioFile(path), 0.5, 1.02).load()) == 8_000  # rounded in its row
