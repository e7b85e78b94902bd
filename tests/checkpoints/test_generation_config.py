"""A checkpoint's generation config, unusual as it may be, through training and back."""

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder
from echo.data.audio import AudioFile
from echo.data.utterance import FixedCorpus, Utterance
from echo.train.run import start_run
from tests.data.recordings import write
from tests.small_whisper import GENERATION, TOKENIZER, edit, save_whisper, small_whisper
from tests.train.test_loop import tiny

PLAIN = ["attention.encoder=plain", "attention.decoder=plain"]
UNUSUAL = {
    **GENERATION,
    "is_multilingual": False,
    "suppress_tokens": [3, 5, 9],
    "begin_suppress_tokens": [7, 11],
    "alignment_heads": [[1, 2], [0, 3]],
    "max_initial_timestamp_index": 4,
    "num_beams": 3,
    "length_penalty": 0.3,
    "prev_sot_token_id": TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>"),
    "max_length": 19,
    "of_no_library": [1, {"a": 2}],
}


def values(model):
    content = model.generation_config.to_dict()
    return {key: content.get(key) for key in UNUSUAL}


def generated(model):
    features = torch.randn(2, 80, 200, generator=torch.Generator().manual_seed(0))
    return model.eval().generate(features)


@pytest.mark.slow
@pytest.mark.parametrize("made_from_model", [False, True])
def test_it_is_the_same_after_conversion_training_and_conversion_back(
    shared, tmp_path, made_from_model
):
    whisper = save_whisper(small_whisper(), tmp_path / "whisper")
    edit("generation_config.json", **UNUSUAL, _from_model_config=made_from_model)(whisper)
    convert(whisper, tmp_path / "echo", PLAIN)
    init = load_model(str(tmp_path / "echo")).model
    assert values(init) == UNUSUAL

    audio = AudioFile(write(tmp_path / "tone.wav"))
    utterances = [Utterance(str(i), audio, "the fox", duration=1) for i in range(2)]
    settings = {"max_steps": 1, "learning_rate": 0.0}
    config = tiny(
        shared, init=str(tmp_path / "echo"), model=None, train=settings, data={"pad_to": 30}
    )
    start_run(config, tmp_path / "run", FixedCorpus(utterances, utterances))
    checkpoint = CheckpointFolder(tmp_path / "run").path("last")
    convert(checkpoint, tmp_path / "back")

    trained = load_model(str(checkpoint)).model
    back = WhisperForConditionalGeneration.from_pretrained(tmp_path / "back")
    expected = generated(init)
    assert len(expected[0].unique()) > 2  # or equality would say little
    for model in (trained, back):
        assert values(model) == UNUSUAL
        assert torch.equal(generated(model), expected)
