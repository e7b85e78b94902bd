import pytest

from echo.attention.settings import AttentionSettings, resolve_layers


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fancy", "attention form is 'fancy', but must be one of: plain, hybrid, scaled, focus"),
        ({"from": "hybrid"}, "attention has no field 'from'"),
        ({"max_span": 0}, "attention max_span is 0, but must be a whole number >= 1"),
        ({"max_span": True}, "attention max_span is True"),
        ({"temp_scale": 1.5}, "attention temp_scale is 1.5"),
        ({"sharpen_longer": "yes"}, "attention sharpen_longer is 'yes'"),
        (
            {"form": "hybrid", "window": 32, "max_span": 16},
            r"attention window \(32\) must not exceed max_span \(16\): frames beyond",
        ),
        (
            {"form": "hybrid", "window": 32, "max_span": 64, "max_dist": 20},
            r"attention window \(32\) must not exceed max_dist \(20\)",
        ),
        ({"refiner": True}, "attention refiner belongs to the form focus, not to adaptive"),
        ({"form": "plain", "global_stride": 2}, "attention global_stride belongs to the focused"),
        ({"local_gain": -1}, r"attention local_gain is -1, but must be a number in \[0, 10\]"),
        ({"form": ["focus"]}, "attention form is ..focus"),
        (3, "attention is 3, but must be a form's name or a mapping"),
    ],
)
def test_what_is_not_allowed_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        AttentionSettings.from_value(value)


def test_the_scaled_form_has_defaults_of_its_own():
    settings = AttentionSettings.from_value({"form": "scaled", "window": 8})
    assert (settings.max_span, settings.window, settings.temp_scale) == (128, 8, 0.1)


def test_one_value_serves_all_layers_and_a_list_each():
    assert resolve_layers("plain", 3, "encoder") == [AttentionSettings(form="plain")] * 3
    both = resolve_layers(["plain", {"form": "adaptive", "max_span": 8}], 2, "encoder")
    assert [s.form for s in both] == ["plain", "adaptive"]
    assert both[1].max_span == 8
    with pytest.raises(ValueError, match=r"attention.decoder lists 1 blocks, but there are 2"):
        resolve_layers(["plain"], 2, "decoder")
