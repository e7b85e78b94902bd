"""A pilot's models are checked before any is trained."""

import pytest

from echo.pilot.contenders import read_pilot
from echo.pilot.run import run_pilot
from echo.support.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"attention": {"encoder": "focused"}}}, r"model\.attention\.encoder: form is"),
        ({"loss": {"anchor_kl": 1}}, r"loss\.anchor_kl needs init"),
    ],
)
def test_a_model_that_cannot_be_is_named_before_data_are_read(tmp_path, settings, message):
    """And before a folder is written, for the first model too."""
    content = {
        "data": {"train": str(tmp_path / "none.jsonl"), "eval": str(tmp_path / "none.jsonl")},
        "models": {"good": {"model": {"attention": {"encoder": "plain"}}}, "bad": settings},
    }
    with pytest.raises(ConfigError, match=rf"models\.bad: {message}"):
        run_pilot(read_pilot(content, "test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
