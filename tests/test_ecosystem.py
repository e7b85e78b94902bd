"""Echo's models where Hugging Face's libraries load, adapt and run them."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq

from echo.upcycle import convert
from tests.checkpoints import save_whisper, small_whisper

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
    "Echo's code first": "import echo.model\nfrom transformers import *",
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
    imports = imports.replace(
        "import *", "import AutoConfig, AutoModelForSpeechSeq2Seq, pipeline"
    )
    found = python(f"import sys\n{imports}\nfolder = sys.argv[1]{LOADS}", folder)
    assert found == "EchoConfig EchoForConditionalGeneration seq2seq_whisper"


def test_importing_echo_imports_nothing_heavy():
    loaded = python("import echo, sys; print(*sys.modules)").split()
    assert not {"torch", "transformers", "numpy", "echo.model"} & set(loaded)
