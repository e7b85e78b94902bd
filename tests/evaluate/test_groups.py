import pytest

from echo.data.audio import AudioFile
from echo.data.utterance import Utterance
from echo.evaluate.groups import check_column, group
from echo.support.errors import DataError


def utterance(number, duration=1.0, speaker=None, **extra):
    return Utterance(str(number), AudioFile("none.wav"), "text", duration, speaker, extra=extra)


SET = [
    utterance(0, 1.9, "s10", age=6),
    utterance(1, 2.0, "s2", age=10),
    utterance(2, 300.0, "s10", age=6, noise="loud"),
    utterance(3, 12.0),
]


@pytest.mark.parametrize(
    ("column", "groups"),
    [
        ("speaker", {"(none)": [3], "s2": [1], "s10": [0, 2]}),
        ("duration", {"0 to 2 s": [0], "2 to 5 s": [1], "10 to 15 s": [3], "30 s and longer": [2]}),
        ("age", {"6": [0, 2], "10": [1], "(none)": [3]}),
        ("noise", {"(none)": [0, 1, 3], "loud": [2]}),
    ],
)
def test_groups_are_in_natural_order_and_hold_every_utterance_once(column, groups):
    check_column(SET, column)
    found = group(SET, column)
    assert found == groups
    assert list(found) == list(groups)
    assert sorted(index for indices in found.values() for index in indices) == [0, 1, 2, 3]


def test_an_unknown_column_is_an_error_that_names_the_others():
    message = "no column 'dialect' to group by: there is duration, speaker, age, noise"
    with pytest.raises(DataError, match=message):
        check_column(SET, "dialect")
    with pytest.raises(DataError, match=r"there is duration$"):
        check_column(SET[3:], "speaker")
