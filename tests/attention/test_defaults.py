"""The defaults of every form: a checkpoint's config leaves them out, so another default would be
another model."""

from dataclasses import asdict

import pytest

from echo.attention.forms import read_settings

FOCUSED = {
    "global_stride": 1,
    "max_global_keys": 750,
    "rotary_base": None,
    "max_span": 32,
    "local_gain": None,
    "temp_scale": 0.01,
    "sharpen_longer": False,
    "local_kernel": "blocks",
}
HARD = {**FOCUSED, "window": 32, "max_dist": 128}
DEFAULTS = {
    "plain": {},
    "adaptive": {
        **FOCUSED,
        "ramp": 8,
        "span_per_head": False,
        "local_heads": None,
        "relative_bias": False,
        "first_offset": None,
        "local_scores": "content",
        "temperature": "span",
        "local_input": "shared",
    },
    "convolution": {
        "global_stride": 1,
        "max_global_keys": 750,
        "rotary_base": None,
        "max_span": 8,
        "local_gain": None,
        "ramp": 5,
        "local_input": "projected",
    },
    "hybrid": HARD,
    "scaled": {**HARD, "max_span": 128, "temp_scale": 0.1, "window": 16},
}


@pytest.mark.parametrize("form", DEFAULTS)
def test_defaults_stay_what_they_are(form):
    assert asdict(read_settings(form, "here")) == {"form": form, **DEFAULTS[form]}


def test_a_new_models_gain_is_one_unless_it_is_given():
    for given, gain in ((None, 1.0), (0.0, 0.0), (0.25, 0.25), (10.0, 10.0)):
        settings = read_settings({"form": "adaptive", "local_gain": given}, "here")
        assert settings.first_gain == gain


@pytest.mark.parametrize("key", ["local_gain", "global_stride", "rotary_base"])
def test_it_is_said_why_a_whisper_cannot_begin_with_a_setting(key):
    assert "Whisper" in read_settings("adaptive", "here").not_from_whisper[key]
