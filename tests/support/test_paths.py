"""Names that come out of files."""

import pytest

from echo.support.files import is_file_name


@pytest.mark.parametrize("name", ["echo", "step-000200", "model-00001-of-2.safetensors", "Größe 2"])
def test_a_name_is_a_name(name):
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a", "a/b", "/a", "a\\b", "C:a", "~", ".hidden"),
        *("a\nb", "\x1b[2J", "a\0", "x" * 256, "\ud800", None, 3, ["a"]),
    ],
)
def test_what_leaves_the_folder_or_is_no_text_is_none(name):
    assert not is_file_name(name)
