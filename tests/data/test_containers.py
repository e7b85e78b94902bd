"""M4A, MP4 and WebM: what they hold is heard as it was recorded, whole and in parts."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import echo.data.containers
from echo.data.audio import AudioBytes, AudioFile, AudioSlice
from echo.data.mixing import resampler
from echo.data.sources import ReadOptions, read_source
from echo.support.errors import DataError
from tests.data.containers import write_container
from tests.data.recordings import write_manifest

av = pytest.importorskip("av")
KINDS = {
    "aac.m4a": ("aac", {}),
    "alac.m4a": ("alac", {}),
    "aac.mkv": ("aac", {}),
    "opus.mp4": ("libopus", {}),
    "opus.webm": ("libopus", {}),
    "live.webm": ("libopus", {"live": "1"}),  # as browsers record it: without a length
}


@pytest.fixture(scope="module")
def speech(shared: Path) -> np.ndarray:
    """(2, samples) at 16 kHz: different speech on each channel."""
    rows = read_source(str(shared / "data/librispeech/dev.jsonl"))[:6]
    heard = [row.audio.load().numpy() for row in rows]
    left, right = np.concatenate(heard[:3]), np.concatenate(heard[3:])
    size = min(len(left), len(right), 20 * 16_000)
    return np.stack([left[:size], right[:size]])


@pytest.fixture(scope="module")
def folder(speech: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    fine = resampler(16_000, 48_000)(torch.from_numpy(speech)).numpy()  # what Opus keeps
    for name, (codec, options) in KINDS.items():
        samples, rate = (fine, 48_000) if "opus" in codec else (speech, 16_000)
        write_container(folder / name, samples, rate, codec, **options)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_a_recording_is_heard_as_it_was_made(name: str, folder: Path, speech: np.ndarray) -> None:
    """Both channels, from the first sample on, from a file or from memory."""
    path = folder / name
    samples, rate = AudioFile(path).read()
    assert rate == (48_000 if "opus" in KINDS[name][0] else 16_000)
    assert len(samples) == 2
    assert torch.equal(samples, AudioBytes(path.read_bytes(), "a").read()[0])
    assert AudioFile(path).seconds() == pytest.approx(samples.shape[1] / rate, abs=0.1)
    heard = samples if rate == 16_000 else resampler(rate, 16_000)(samples)
    error = heard[:, : speech.shape[1]] - torch.from_numpy(speech)
    assert error.std() < (1e-4 if name == "alac.m4a" else 0.2) * speech.std()
    assert AudioFile(path).seconds() == pytest.approx(speech.shape[1] / 16_000, abs=0.1)


@pytest.mark.parametrize("name", [name for name in KINDS if "opus" in KINDS[name][0]])
def test_opus_is_as_in_ogg(name: str, folder: Path) -> None:
    """The same packets in Ogg, read by libsndfile."""
    ogg = io.BytesIO()
    with av.open(str(folder / name)) as source, av.open(ogg, "w", format="ogg") as target:
        track = source.streams.audio[0]
        copy = target.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    expected, rate = AudioBytes(ogg.getvalue(), "ogg").read()
    found, found_rate = AudioFile(folder / name).read()
    assert (rate, found_rate) == (48_000, 48_000)
    if name.endswith("webm"):  # the Ogg is made of its rounded times
        expected = expected[:, 24:]
    size = min(expected.shape[1], found.shape[1])
    assert abs(expected.shape[1] - found.shape[1]) <= 960  # a packet, not all of which may be meant
    error = (found[:, :size] - expected[:, :size]).abs()
    assert error.max() < 5e-3
    assert error.mean() < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_a_part_is_as_in_the_whole(name: str, folder: Path) -> None:
    audio = AudioFile(folder / name)
    whole, rate = audio.read()
    for start, end in ((0, 1.5), (0.3, 2), (3.1234, 4.5), (12.99, 19.3), (17.77, None)):
        part, _ = AudioSlice(audio, start, end).read()
        first = round(start * rate)
        assert part.shape[1] >= (end or whole.shape[1] / rate) * rate - first - 0.1 * rate
        # Where AAC says that there is noise, a decoder makes some up, not the same each time.
        tolerance = 0.02 if "aac" in name else 0.0
        expected = whole[:, first : first + part.shape[1]]
        torch.testing.assert_close(part, expected, rtol=0, atol=tolerance)


def test_what_a_recorder_left_out_is_silence(folder: Path, tmp_path: Path) -> None:
    """So that all that follows stays in its place."""
    path = tmp_path / "a.webm"
    with av.open(str(folder / "opus.webm")) as source, av.open(str(path), "w") as target:
        track = source.streams.audio[0]
        copy = target.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None and not 5 <= packet.pts * packet.time_base < 7:
                packet.stream = copy
                target.mux(packet)
    whole, gap = AudioFile(folder / "opus.webm").load(), AudioFile(path).load()
    assert abs(len(whole) - len(gap)) < 100
    assert gap[5 * 16_000 + 500 : 7 * 16_000 - 500].abs().max() == 0
    error = (whole[:304_000] - gap[:304_000])[15 * 16_000 :]
    assert error.std() < 0.1 * whole.std()
    later = AudioSlice(AudioFile(path), 15, 16).load()
    assert (later - gap[15 * 16_000 : 16 * 16_000]).std() < 0.1 * whole.std()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [0.5, 100])
def test_a_file_that_is_cut_off_is_refused(name: str, size: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    cut = content[: int(size if size > 1 else size * len(content))]
    if name == "live.webm" and size < 1:  # nothing says how long it was
        assert 8 < AudioBytes(cut, "a").seconds() < 12
        return
    with pytest.raises(DataError, match=r"^x\.m4a: (cannot be read as audio|only [\d.]+ s of)"):
        AudioBytes(cut, "x.m4a").load()


def test_damage_within_is_one_sentence(folder: Path) -> None:
    content = bytearray((folder / "aac.m4a").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    with pytest.raises(DataError, match=r"^a: cannot be read as audio \(.*\)$"):
        AudioBytes(bytes(content), "a").load()


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width = track.height = 16
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with pytest.raises(
        DataError, match=r"a\.mp4: cannot be read as audio \(it has no audio track\)"
    ):
        AudioFile(path).seconds()


def test_a_playlist_is_not_opened(folder: Path, tmp_path: Path) -> None:
    """Which FFmpeg would follow to other files and addresses, whatever it is called."""
    for content in (
        f"#EXTM3U\n#EXTINF:10,\n{folder}/aac.m4a\n",
        f"ffconcat version 1.0\nfile {folder}/aac.m4a\n",
    ):
        path = tmp_path / "a.mp4"
        path.write_text(content)
        with pytest.raises(DataError, match="cannot be read as audio"):
            AudioFile(path).load()


def test_without_the_library_one_sentence_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo.data.containers, "AVAILABLE", False)
    for look in (AudioFile(folder / "aac.m4a").load, AudioFile(folder / "opus.webm").seconds):
        with pytest.raises(DataError, match=r"pip install 'echo-asr\[containers\]'$"):
            look()


def test_rows_name_them_like_any_file(folder: Path, tmp_path: Path) -> None:
    row = {"audio_filepath": str(folder / "aac.m4a"), "text": "one", "offset": 2, "duration": 3}
    manifest = write_manifest(tmp_path / "m.jsonl", row)
    (found,) = read_source(manifest, ReadOptions(allow_outside=True))
    assert len(found.audio.load()) == 3 * 16_000
