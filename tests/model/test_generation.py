"""What Echo's `generate` decides otherwise than Whisper's."""

import pytest
import torch
from transformers import GenerationConfig

from echo.model.config import EchoConfig
from echo.model.fallback import LOOP_TOKENS, StopRunaway, read_row
from echo.model.generation import row_probabilities, select_rows
from echo.model.model import EchoForConditionalGeneration, EncoderOutput
from tests.model.test_model import SIZES

CONFIG = GenerationConfig(
    compression_ratio_threshold=None, logprob_threshold=-1.0, no_speech_threshold=0.6
)


def scores(logprob):
    """Of two tokens: the log probability that each is to have is that of token 7."""
    p = torch.tensor(logprob).exp()
    step = ((1 - p) / (SIZES["vocab_size"] - 1)).repeat(SIZES["vocab_size"])
    step[7] = p
    return [step.log(), step.log()]


@pytest.mark.parametrize(
    ("no_speech", "logprob", "decision"),
    [
        (0.1, -0.3, (False, False)),
        (0.1, -1.5, (True, False)),  # to be decoded anew
        (0.9, -0.3, (False, False)),  # sure of the text
        (0.9, -0.7, (False, True)),  # nobody speaks, and the text is a guess
        (0.9, -1.5, (False, True)),
    ],
)
def test_a_row_is_judged_by_its_own_probabilities(no_speech, logprob, decision):
    """And not by those of another row's beams."""
    beams = 3
    for index in range(2):
        of_rows = [1 - no_speech, 1 - no_speech]
        of_rows[index] = no_speech
        of_beams = torch.tensor(of_rows).repeat_interleave(beams)
        quiet = row_probabilities(of_beams, 2)[index]
        output = {"scores": scores(logprob)}
        row = read_row(index, torch.tensor([7, 7]), output, CONFIG, 0.0, None, 60)
        assert row.avg_logprob == pytest.approx(logprob)
        skip = row.nobody_speaks(quiet, CONFIG)
        assert (row.needs_fallback(CONFIG) and not skip, skip) == decision


@pytest.mark.parametrize(("pad", "kept"), [(0, [7, 8, 1]), (1, [7, 8])])
def test_padding_and_the_end_of_a_row_are_no_text(pad, kept):
    """The end counts in the mean probability, whether padding is another token or not."""
    config = GenerationConfig(pad_token_id=pad, eos_token_id=1, compression_ratio_threshold=None)
    steps = torch.randn(5, 60)
    tokens = torch.tensor([7, 8, 1, pad, pad])
    row = read_row(0, tokens, {"scores": [*steps]}, config, 0.5, None, 60)
    assert row.tokens.tolist() == [7, 8]
    expected = (0.5 * steps[:3]).log_softmax(-1)[torch.arange(3), torch.tensor([7, 8, 1])]
    torch.testing.assert_close(row.logprobs, expected)
    assert not row.runaway


def test_a_loop_is_decoded_again_however_probable():
    thresholds = {"compression_ratio_threshold": 1e9, "logprob_threshold": None}
    config = GenerationConfig(pad_token_id=1, eos_token_id=1, **thresholds)
    tokens = torch.full((LOOP_TOKENS + 1,), 7)
    for n in (0, 1):
        stop = StopRunaway([1000], prompt=0)
        row = read_row(0, torch.cat([tokens[n:], torch.ones(3).long()]), {}, config, 0, stop, 60)
        assert row.runaway == row.needs_fallback(config) == (n == 0)


def test_rows_of_an_encoders_output_are_objects_of_their_own():
    encoded = EncoderOutput(
        last_hidden_state=torch.randn(3, 4, 2), attentions=(torch.randn(3, 1, 4, 4),)
    )
    chosen = select_rows(encoded, slice(1, 2))
    assert torch.equal(chosen.last_hidden_state, encoded.last_hidden_state[1:2])
    assert torch.equal(chosen.attentions[0], encoded.attentions[0][1:2])
    chosen = select_rows(encoded, slice(None))
    chosen["last_hidden_state"] = chosen.last_hidden_state.repeat_interleave(2, dim=0)
    assert len(encoded.last_hidden_state) == 3


def test_generate_leaves_the_models_own_settings_alone():
    """Decisions about rows are kept for the call, not for the model."""
    model = EchoForConditionalGeneration(EchoConfig(**SIZES)).eval()
    model.generation_config.no_timestamps_token_id = 59
    before = model.generation_config.to_dict(), set(vars(model))
    model.generate(
        torch.randn(2, 80, 200),
        attention_mask=(torch.arange(200) < torch.tensor([[200], [90]])).long(),
        temperature=(0.0, 0.5),
        logprob_threshold=-0.1,
        no_speech_threshold=0.6,
        compression_ratio_threshold=0.5,
        max_new_tokens=9,
    )
    assert (model.generation_config.to_dict(), set(vars(model))) == before
