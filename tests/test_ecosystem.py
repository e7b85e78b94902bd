"""Echo's models where Hugging Face's libraries load, adapt and run them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, pipeline

from echo.checkpoints.convert import convert
from echo.data.audio import AudioFile
from echo.model.geometry import SAMPLE_RATE
from tests.small_whisper import save_whisper, small_whisper

LOADS = """
config = AutoConfig.from_pretrained(folder)
model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
transcribe = pipeline("automatic-speech-recognition", model=folder)
print(type(config).__name__, type(model).__name__, transcribe.type)
"""
IMPORTS = {
    "echo first": "import echo\nfrom transformers import *",
    "transformers first": "from transformers import AutoConfig, AutoModelForSpeechSeq2Seq\n"
    "from transformers import pipeline\nimport echo",
    "transformers unused before": "import transformers, echo\nfrom transformers import *",
    "Echo's code first": "import echo.model.model\nfrom transformers import *",
}


@pytest.fixture
def folder(tmp_path):
    """An Echo model, focused in encoder and decoder."""
    whisper = save_whisper(small_whisper(), tmp_path / "whisper")
    convert(whisper, tmp_path / "echo", ["attention.decoder=adaptive"])
    return tmp_path / "echo"


def python(code, *arguments):
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS.keys())
def test_importing_echo_is_enough(folder, imports):
    imports = imports.replace("import *", "import AutoConfig, AutoModelForSpeechSeq2Seq, pipeline")
    found = python(f"import sys\n{imports}\nfolder = sys.argv[1]{LOADS}", folder)
    assert found == "EchoConfig EchoForConditionalGeneration seq2seq_whisper"


def test_importing_echo_imports_nothing_heavy():
    loaded = python("import echo, sys; print(*sys.modules)").split()
    assert not {"torch", "transformers", "numpy", "echo.model"} & set(loaded)


def test_adapters_of_peft_are_trained_saved_loaded_and_merged(folder, tmp_path):
    peft = pytest.importorskip("peft")
    base = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(base, settings)
    features = torch.randn(2, 80, 100)
    batch = {"input_features": features, "labels": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    before = model(**batch).loss
    for _ in range(2):  # the adapters' first halves learn from the second step on
        model(**batch).loss.backward()
        optimiser.step()
    assert model.eval()(**batch).loss < before
    model.save_pretrained(tmp_path / "adapters")
    loaded = peft.PeftModel.from_pretrained(
        AutoModelForSpeechSeq2Seq.from_pretrained(folder), tmp_path / "adapters"
    ).eval()
    with torch.no_grad():
        expected = model(**batch).logits
        torch.testing.assert_close(loaded(**batch).logits, expected)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-4, atol=1e-3)
    options = {"max_new_tokens": 5, "do_sample": False, "language": None, "task": None}
    found = [m.generate(input_features=features, **options) for m in (model, merged)]
    assert torch.equal(*found)


@pytest.fixture(scope="module")
def long_recording(shared):
    """Utterances of one speaker, one after the other, until Whisper's 30 s do not hold them."""
    parts: list[np.ndarray] = []
    for path in sorted((shared / "data" / "librispeech" / "dev").glob("*.opus")):
        parts.append(AudioFile(path).load().numpy())
        if sum(map(len, parts)) > 33 * SAMPLE_RATE:
            break
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def upcycled(shared, tmp_path_factory):
    """Whisper's folder, and the same model as Echo's."""
    whisper = shared / "models" / "whisper-tiny.en"
    echo = tmp_path_factory.mktemp("upcycled") / "echo"
    convert(whisper, echo)
    return whisper, echo


@pytest.mark.slow
@pytest.mark.parametrize(("chunks", "timestamps"), [(30, "word"), (0, True)])
def test_the_pipeline_gives_whispers_output_for_long_audio(
    upcycled, long_recording, chunks, timestamps
):
    # In the checkpoint's float16, the two round otherwise, and words that are nearly as good as
    # each other may swap.
    whisper, echo = (
        pipeline("automatic-speech-recognition", model=str(folder), dtype=torch.float32)(
            long_recording.copy(), chunk_length_s=chunks, return_timestamps=timestamps
        )
        for folder in upcycled
    )
    assert len(whisper["text"].split()) > 60
    assert echo == whisper
    if timestamps:
        assert max(chunk["timestamp"][0] for chunk in echo["chunks"]) > 30
