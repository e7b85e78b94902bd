"""What Echo's `generate` decides otherwise than Whisper's."""

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import WhisperNoSpeechDetection

from echo.model.generation import select_rows
from echo.model.model import EchoConfig, EchoForConditionalGeneration, EncoderOutput
from tests.model.test_model import SIZES


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
    model = EchoForConditionalGeneration(EchoConfig(**SIZES))
    beams = 3
    detection = WhisperNoSpeechDetection(no_speech_token=5, begin_index=1)
    config = GenerationConfig(
        compression_ratio_threshold=None,
        logprob_threshold=-1.0,
        no_speech_threshold=0.6,
        rows_to_repeat=[],
    )
    # Two tokens, and of each the probability that the row is to have.
    p = torch.tensor(logprob).exp()
    step = ((1 - p) / (SIZES["vocab_size"] - 1)).repeat(SIZES["vocab_size"])
    step[7] = p
    row = {"scores": [step.log(), step.log()]}
    sure = {"scores": [torch.nn.functional.one_hot(torch.tensor(7), 60).float().log()] * 2}
    for index, rows in ((0, [row, sure]), (1, [sure, row])):
        of_rows = [1 - no_speech, 1 - no_speech]
        of_rows[index] = no_speech
        detection._no_speech_prob = torch.tensor(of_rows).repeat_interleave(beams)
        for i in range(2):
            found = model._need_fallback(
                torch.tensor([7, 7]), rows, i, [detection], config, SIZES["vocab_size"], 0.0
            )
            if i == index:
                assert found == decision


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
