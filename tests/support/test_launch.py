"""What the environment says of a launcher's processes."""

import pytest

from echo.support.errors import ConfigError
from echo.support.launch import process_count

LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}


@pytest.fixture
def environment(monkeypatch):
    def change(changes):
        for name in LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in changes.items():
            monkeypatch.setenv(name, value)

    return change


@pytest.mark.parametrize(("changes", "count"), [({}, 1), (LAUNCHED, 2)])
def test_processes_are_counted(environment, changes, count):
    environment(changes)
    assert process_count() == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc' in the environment"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"WORLD_SIZE": "\u00b2"}, "must be a whole number"),
        ({"WORLD_SIZE": "9" * 5000}, "must be a whole number"),
        ({**LAUNCHED, "RANK": "x"}, "RANK is 'x'"),
        ({**LAUNCHED, "LOCAL_RANK": "1.5"}, "LOCAL_RANK is '1.5'"),
        ({**LAUNCHED, "RANK": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
        ({"WORLD_SIZE": "2"}, "RANK is not set: launch with torchrun"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed cannot train Echo"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "parallelism config cannot train"),
    ],
)
def test_an_environment_of_no_launcher_is_refused(environment, changes, message):
    environment(changes)
    with pytest.raises(ConfigError, match=message):
        process_count()
