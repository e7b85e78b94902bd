import pytest

from echo.attention.adaptive import AdaptiveSettings
from echo.attention.focus import FocusSettings
from echo.attention.forms import FORMS, read_settings, register_form, resolve_layers
from echo.attention.hybrid import HybridAttention, HybridSettings, ScaledSettings
from echo.attention.settings import PlainSettings


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fancy", "here: form is 'fancy', but must be one of: plain, hybrid, scaled, focus"),
        ({"from": "hybrid"}, "here: unknown key 'from'; did you mean form"),
        ({"max_span": 0}, "here: max_span is 0, but must be 1 or more"),
        ({"max_span": True}, "here: max_span is True, but must be a whole number"),
        ({"temp_scale": 1.5}, "here: temp_scale is 1.5, but must be from 0 to 0.999999"),
        ({"temp_scale": 1}, "here: temp_scale is 1, but must be from 0 to"),
        ({"temp_scale": float("nan")}, "here: temp_scale is nan"),
        ({"sharpen_longer": "yes"}, "here: sharpen_longer is 'yes', but must be true or false"),
        ({"rotary_base": 1}, "here: rotary_base is 1, but must be more than 1"),
        ({"temperature": "low"}, "here: temperature is 'low', but must be one of: span, learned"),
        (
            {"form": "hybrid", "window": 32, "max_span": 16},
            r"here: window \(32\) must not exceed max_span \(16\): frames beyond",
        ),
        (
            {"form": "focus", "window": 32, "max_span": 64, "max_dist": 20},
            r"here: window \(32\) must not exceed max_dist \(20\)",
        ),
        ({"local_gain": -1}, "here: local_gain is -1, but must be from 0 to 10"),
        ({"local_gain": True}, "here: local_gain is True, but must be a number"),
        ({"form": ["focus"]}, "here: form is ..focus"),
        (3, "here is 3, but must be a form's name or a mapping"),
        # What says nothing to the form:
        ({"refiner": True}, "here: refiner belongs to focus, not to adaptive"),
        (
            {"form": "hybrid", "relative_bias": True},
            "relative_bias belongs to adaptive, not to hyb",
        ),
        (
            {"form": "plain", "global_stride": 2},
            "global_stride belongs to hybrid, scaled, focus, a",
        ),
        ({"form": "plain", "local_gain": 0.5}, "local_gain belongs to .*, not to plain"),
        ({"form": "plain", "nothing": 0.5}, "here: unknown key 'nothing'; there are: form"),
        ({"form": "scaled", "sharpen_longer": True}, "sharpen_longer is True, but must be one of"),
        (
            {"form": "focus", "local_kernel": "flex"},
            "local_kernel is 'flex', but must be one of: b",
        ),
    ],
)
def test_what_is_not_allowed_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        read_settings(value, "here")


@pytest.mark.parametrize("form", ["plain", *FORMS])
def test_what_other_forms_have_may_stand_at_its_default(form):
    """As configs of earlier versions have it, and presets that are laid over each other."""
    foreign = {"refiner": False, "ramp": 8, "max_dist": 128, "relative_bias": False}
    foreign |= {"local_gain": None, "global_stride": 1, "sharpen_longer": False}
    if form == "convolution":
        del foreign["ramp"]  # is its own, with another default
    assert read_settings({"form": form, **foreign}, "here") == read_settings(form, "here")


def test_the_scaled_form_has_defaults_of_its_own():
    assert read_settings({"form": "scaled", "window": 8}, "here") == ScaledSettings(window=8)
    assert ScaledSettings(max_span=128, window=16, temp_scale=0.1) == ScaledSettings()
    assert FocusSettings().max_span == HybridSettings().max_span == 32


def test_one_value_serves_all_layers_and_a_list_each():
    assert resolve_layers("plain", 3, "encoder") == [PlainSettings()] * 3
    both = resolve_layers(["plain", {"form": "adaptive", "max_span": 8}], 2, "encoder")
    assert both == [PlainSettings(), AdaptiveSettings(max_span=8)]
    assert [s.form for s in both] == ["plain", "adaptive"]
    with pytest.raises(ValueError, match=r"attention.decoder lists 1 blocks, but there are 2"):
        resolve_layers(["plain"], 2, "decoder")
    with pytest.raises(ValueError, match=r"attention\.decoder\[1\]: max_span is 0"):
        resolve_layers(["plain", {"max_span": 0}], 2, "decoder")
    with pytest.raises(ValueError, match=r"attention\.encoder: max_span is 0"):
        resolve_layers({"max_span": 0}, 2, "encoder")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "form's name is '', but must be lower-case letters, digits and underscores"),
        ("My form", "form's name is 'My form'"),
        ("plain", "there is already a form 'plain'"),
        ("hybrid", "there is already a form 'hybrid'"),
    ],
)
def test_a_form_needs_a_name_of_its_own(name, message):
    class Named(HybridAttention):
        settings_class = type("NamedSettings", (HybridSettings,), {"form": name})

    before = dict(FORMS)
    with pytest.raises(ValueError, match=f"Named: .*{message}"):
        register_form(Named)
    assert before == FORMS
