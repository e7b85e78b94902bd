"""Every reader, on damaged files: a result, or one clear sentence; never another exception, an
endless loop or gigabytes. ECHO_FUZZ_EXAMPLES=5000 tries as many of each kind, others each time."""

import json
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo.checkpoints.model_bin import read_variables
from echo.config import load_config
from echo.data.audio import AudioBytes, AudioFile
from echo.data.sound_file import header_duration
from echo.data.sources import scan_source
from echo.support.errors import DataError, EchoError
from echo.support.settings import apply_overrides
from tests.data.recordings import tone, write
from tests.fuzzing import damaged

EXAMPLES = int(os.environ.get("ECHO_FUZZ_EXAMPLES", "0"))
CPU_SECONDS = 20  # for one example, of processor time; most take milliseconds
MEMORY = 3 << 30

fuzz = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """What asks for gigabytes gets a MemoryError, which is a failure unless the reader tells it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)


def attempt(read: Callable[[], Any]) -> Any:
    """The result, or None where the input was refused as it should be."""

    def give_up(*_: object) -> None:
        raise TimeoutError("this example takes for ever")

    old = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        return read()
    except EchoError as error:
        check_sentence(str(error))
        return None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def check_sentence(message: str) -> None:
    assert message
    assert "\n" not in message
    assert len(message) < 3_000
    message.encode()


def check_rows(spec: Path) -> None:
    for row in attempt(lambda: list(scan_source(str(spec)))) or []:
        if isinstance(row, DataError):
            check_sentence(str(row))
            assert str(row).startswith(str(spec))
        else:
            assert row.text
            assert 0 < row.duration < 1e15
            row.id.encode()


ROWS = [
    {"audio_filepath": "a.wav", "text": "one, two", "duration": 0.1, "speaker": 7, "id": "x"},
    {"audio_filepath": "sub/../a.wav", "text": "größer", "lang": ["de", None, True]},
]
TABLE = 'path,sentence,duration,id\na.wav,"one, ""two""",0.1,x\na.wav,größer,0.1,y\n'
FILES = {
    "m.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    "t.csv": TABLE,
    "t.tsv": TABLE.replace(", ", " ").replace(",", "\t"),
    "1-2.trans.txt": "a ONE TWO\na GRÖSSER\n",
}


@pytest.mark.parametrize("name", FILES)
@fuzz
@given(data=st.data())
def test_sources(tmp_path: Path, name: str, data: st.DataObject) -> None:
    if not (tmp_path / "a.wav").exists():
        write(tmp_path / "a.wav", tone(0.1))
        (tmp_path / "sub").mkdir()
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(FILES[name].encode())))
    check_rows(tmp_path if name.endswith(".txt") else path)


CONFIG = """seed: 1
model: &m {d_model: 32, attention: {encoder: [plain, {form: adaptive, max_span: 8}]}}
data: {train: a.jsonl, augment: {speed: [0.9, 1.0]}, pad_to: batch}
train: {max_steps: 10, learning_rate: 1e-3, betas: [0.9, 0.98]}
lora: null
"""


@fuzz
@given(content=damaged(CONFIG.encode()))
def test_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    attempt(lambda: load_config(path))


@fuzz
@given(content=damaged(b"model.attention.encoder=[plain, {form: focus, max_span: 8}]"))
def test_overrides(content: bytes) -> None:
    override = content.decode(errors="surrogateescape")
    assert attempt(lambda: apply_overrides({"model": {"d_model": 1}}, [override])) != {}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@fuzz
@given(data=st.data())
def test_audio(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    good = tmp_path / f"good{suffix}"
    if not good.exists():
        write(good, tone(0.1))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data.draw(damaged(good.read_bytes())))
    seconds = attempt(lambda: header_duration(path))
    assert seconds is None or seconds > 0
    for audio in (AudioFile(path), AudioBytes(path.read_bytes(), str(path))):
        samples = attempt(audio.load)
        if samples is not None:
            assert samples.ndim == 1
            assert len(samples)
            assert torch.isfinite(samples).all()


def model_bin() -> bytes:
    """As CTranslate2 writes it: a matrix, a quantised one and its scale, and an alias."""

    def text(value: str) -> bytes:
        return (len(value) + 1).to_bytes(2, "little") + value.encode() + b"\0"

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    content = number(6) + text("WhisperSpec") + number(3) + number(2)
    for name, shape, kind, size in (("a/weight", (2, 3), 0, 24), ("b/weight", (4,), 1, 4)):
        content += text(name) + number(len(shape), 1) + b"".join(map(number, shape))
        content += number(kind, 1) + number(size) + bytes(range(size))
    return content + number(1) + text("c/weight") + text("a/weight")


@fuzz
@given(content=damaged(model_bin()))
def test_model_bin(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    for variable in (attempt(lambda: read_variables(path)) or {}).values():
        tensor = attempt(variable.read)
        assert tensor is None or tensor.shape == variable.shape


def test_the_undamaged_files_are_read(tmp_path: Path) -> None:
    """Or nothing above would be tried."""
    write(tmp_path / "a.wav", tone(0.1))
    (tmp_path / "sub").mkdir()
    for name, content in FILES.items():
        path = tmp_path / name
        path.write_text(content)
        rows = list(scan_source(str(tmp_path if name.endswith(".txt") else path)))
        assert [type(row).__name__ for row in rows] == ["Utterance"] * 2
        path.unlink()
    (tmp_path / "run.yaml").write_text(CONFIG)
    assert load_config(tmp_path / "run.yaml").train.max_steps == 10
    (tmp_path / "model.bin").write_bytes(model_bin())
    assert set(read_variables(tmp_path / "model.bin")) == {"a/weight", "b/weight", "c/weight"}
    assert re.fullmatch(r"0\.1\d*", str(header_duration(tmp_path / "a.wav")))
    assert soundfile.info(tmp_path / "a.wav").frames == 1600
