import pytest

from echo import EchoConfig, EchoForConditionalGeneration
from echo.report.maps import is_focused
from tests.small_whisper import small_whisper

PLAIN = {"encoder": "plain", "decoder": "plain"}


@pytest.mark.parametrize(
    ("attention", "focused"),
    [
        (None, True),  # the default forms
        ({"encoder": ["plain", "hybrid"], "decoder": "plain"}, True),
        (PLAIN, False),
    ],
)
def test_a_model_has_maps_if_any_of_its_layers_is_focused(attention, focused, tmp_path):
    config = EchoConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        attention=attention,
    )
    EchoForConditionalGeneration(config).save_pretrained(tmp_path)
    assert is_focused(tmp_path) is focused


def test_a_whisper_has_no_maps(tmp_path):
    small_whisper().save_pretrained(tmp_path)
    assert not is_focused(tmp_path)
