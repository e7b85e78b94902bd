"""The recordings in what a user names."""

import pytest

from echo.support.errors import DataError
from echo.transcribe.recordings import find_recordings
from tests.data.recordings import write


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path):
    for name in ("b.wav", "a/c.FLAC", "a/.hidden.wav", "a/d.opus"):
        write(tmp_path / name) if "FLAC" not in name else (tmp_path / "a").mkdir()
    (tmp_path / "a/c.FLAC").write_bytes(write(tmp_path / "a/e.flac").read_bytes())
    (tmp_path / "notes.txt").write_text("")
    found = find_recordings([tmp_path / "a/d.opus", tmp_path, tmp_path / "notes.txt"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["a/d.opus", "a/c.FLAC", "a/e.flac", "b.wav", "notes.txt"]


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
