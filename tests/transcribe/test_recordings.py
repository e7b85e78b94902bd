"""The recordings in what a user names."""

import pytest

from echo.support.errors import DataError
from echo.transcribe.recordings import find_recordings, heard_channels
from tests.data.recordings import tone, write


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path):
    for name in ("b.wav", "a/c.FLAC", "a/.hidden.wav", "a/d.opus"):
        write(tmp_path / name) if "FLAC" not in name else (tmp_path / "a").mkdir()
    (tmp_path / "a/c.FLAC").write_bytes(write(tmp_path / "a/e.flac").read_bytes())
    (tmp_path / "notes.txt").write_text("")
    found = find_recordings([tmp_path / "a/d.opus", tmp_path, tmp_path / "notes.txt"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["a/d.opus", "a/c.FLAC", "a/e.flac", "b.wav", "notes.txt"]


@pytest.mark.parametrize("suffix", ["m4a", "MP4", "sph", "aiff", "wma", "amr", "webm", "aac"])
def test_audio_that_may_not_be_readable_is_not_passed_over(tmp_path, suffix):
    """Nor are links that lead nowhere; what reads them names them."""
    write(tmp_path / "a.wav")
    (tmp_path / "sub").mkdir()
    (tmp_path / f"sub/b.{suffix}").touch()
    (tmp_path / "sub/c.wav").symlink_to("gone.wav")
    (tmp_path / "sub/d.json").touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_recordings([tmp_path])]
    assert names == ["a.wav", f"sub/b.{suffix}", "sub/c.wav"]


def test_folders_behind_links_are_searched_once(tmp_path):
    write(tmp_path / "elsewhere/a.wav")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    assert find_recordings([tmp_path / "in"]) == [tmp_path / "in/link/a.wav"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.wav", "no such recording"),
        ("a\0b.wav", "no such recording"),
        ("x" * 300, r"cannot be read \(File name too long\)"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, name, reason):
    with pytest.raises(DataError, match=f": {reason}$"):
        find_recordings([tmp_path / name])


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match=r": holds no recordings"):
        find_recordings([tmp_path])


def test_each_channel_has_a_name_of_its_own(tmp_path):
    """Where there are several; what cannot be read is named later."""
    write(tmp_path / "mono.wav")
    write(tmp_path / "call.wav", tone(channels=2))
    write(tmp_path / "array.wav", tone(channels=3))
    (tmp_path / "bad.wav").write_text("no audio")
    found = {
        name: [
            (wanted, audio.only_channel())
            for audio, wanted in heard_channels(tmp_path / f"{name}.wav", "each")
        ]
        for name in ("mono", "call", "array", "bad")
    }
    assert found == {
        "mono": [("mono", None)],
        "call": [("call.left", 0), ("call.right", 1)],
        "array": [("array.left", 0), ("array.right", 1), ("array.2", 2)],
        "bad": [("bad", None)],
    }
    for channel, number in (("left", 0), ("right", 1), (None, None)):
        ((audio, name),) = heard_channels(tmp_path / "call.wav", channel)
        assert (name, audio.only_channel()) == ("call", number)
