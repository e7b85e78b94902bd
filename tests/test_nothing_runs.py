"""Nothing in a file that somebody else may have written is run: no pickle, no remote code."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from echo.checkpoints.checksums import damage, seal
from echo.checkpoints.run import CheckpointFolder, Progress, save_model
from echo.config import RunConfig
from echo.data.sources import scan_source
from echo.data.tokenizer import train_tokenizer
from echo.support.errors import DataError
from echo.support.settings import build, to_dict
from echo.support.yaml import save_yaml
from echo.train.build import build_model
from tests.data.recordings import write, write_manifest
from tests.test_cli import run

MODEL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "max_seconds": 5}
CODE = "from pathlib import Path\nPath({path!r}).touch()\nclass Evil: pass\n"


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def ran(tmp_path):
    """The file that there would be if code had run."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tmp_path):
    """A small Echo model with plain blocks and no CTC."""
    tokenizer = train_tokenizer(["one two three"])
    settings = {"model": {**MODEL, "attention": {"encoder": "plain", "decoder": "plain"}}}
    config = build(RunConfig, {**settings, "loss": {"ctc_weight": 0}}, "test")
    save_model(build_model(config, tokenizer), tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "a.wav")
    return write_manifest(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "text": "one"})


def refused(monkeypatch, capsys, *arguments) -> str:
    """The one sentence with which a command ends."""
    code, _, err = run(monkeypatch, capsys, *arguments)
    [sentence] = [line for line in err.splitlines() if line.startswith("echo-asr: ")]
    assert code == 2
    assert "Traceback" not in err
    assert len(sentence) < 500
    return sentence


def plain_pickle(path, payload):
    path.write_bytes(pickle.dumps({"weight": payload}))


def torch_pickle(path, payload):
    torch.save({"weight": payload}, path)


@pytest.mark.parametrize("save", [plain_pickle, torch_pickle])
@pytest.mark.parametrize("shards", [False, True])
def test_pickled_weights_do_not_run(monkeypatch, capsys, tmp_path, folder, data, ran, save, shards):
    (folder / "model.safetensors").unlink()
    name = "pytorch_model-00001-of-00001.bin" if shards else "pytorch_model.bin"
    save(folder / name, Payload(ran))
    if shards:
        index = {"metadata": {}, "weight_map": {"model.encoder.conv1.weight": name}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for command in (
        ["evaluate", folder, data],
        ["inspect", folder, tmp_path / "a.wav", "--out", tmp_path / "out"],
        ["compare", folder, folder, "--data", data, "--out", tmp_path / "compared"],
        ["convert", folder, tmp_path / "out"],
    ):
        assert str(folder) in refused(monkeypatch, capsys, *command)


def test_weights_of_a_pickle_without_code_are_read(monkeypatch, capsys, folder, data, ran):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr("sys.argv", ["echo-asr", "evaluate", str(folder), data])
    from echo.cli import main

    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "WER" in capsys.readouterr().out


def test_a_pickled_model_bin_does_not_run(monkeypatch, capsys, tmp_path, ran):
    folder = tmp_path / "ct2"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    plain_pickle(folder / "model.bin", Payload(ran))
    assert "model.bin: " in refused(monkeypatch, capsys, "convert", folder, tmp_path / "out")


@pytest.mark.parametrize("save", [plain_pickle, torch_pickle])
def test_a_pickled_training_state_does_not_run(monkeypatch, capsys, tmp_path, shared, ran, save):
    place = tmp_path / "run"
    checkpoints = CheckpointFolder(place)
    tokenizer = train_tokenizer(["one two three"])
    model = build_model(build(RunConfig, {"model": MODEL}, "test"), tokenizer)
    path = checkpoints.save(model, tokenizer, {"progress": asdict(Progress(step=3))})
    save(path / "trainer.pt", Payload(ran))
    (path / "checksums.json").unlink()
    seal(path)  # whoever plants a pickle can write its checksum
    data = {"corpus": "fsdd", "root": str(shared / "data" / "fsdd")}
    save_yaml(to_dict(build(RunConfig, {"data": data}, "test")), place / "config.yaml")
    sentence = refused(monkeypatch, capsys, "resume", place)
    assert "step-000003/trainer.pt: holds no training state (" in sentence


def test_checksums_of_other_folders_files_are_not_taken(tmp_path):
    (tmp_path / "checksums.json").write_text('{"/dev/zero": ""}')  # which has no end
    assert damage(tmp_path) == "checksums.json names a file of another folder"


@pytest.mark.parametrize("kind", ["echo", "whisper", "evil"])
def test_remote_code_is_not_followed(monkeypatch, capsys, tmp_path, folder, data, ran, kind):
    """Nor is it asked for in the terminal, as the library would."""
    monkeypatch.setattr("builtins.input", lambda _: "y")
    (folder / "evil.py").write_text(CODE.format(path=str(ran)))
    config = json.loads((folder / "config.json").read_text())
    classes = ("AutoConfig", "AutoModel", "AutoModelForSpeechSeq2Seq", "AutoTokenizer")
    config |= {"model_type": kind, "auto_map": dict.fromkeys(classes, "evil.Evil")}
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "tokenizer_config.json"
    map_ = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **map_}))
    assert str(folder) in refused(monkeypatch, capsys, "evaluate", folder, data)
    run(monkeypatch, capsys, "convert", folder, tmp_path / "out")


def test_a_pickle_in_a_saved_dataset_does_not_run(tmp_path, ran):
    """Older versions of Arrow unpickled the types of columns."""
    folder = tmp_path / "set"
    rows = [{"audio": b"noise", "text": "hi"}]
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    [path] = folder.glob("*.arrow")
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        table = reader.read_all()
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload(ran)),
    }
    fields = [field.with_metadata(metadata) for field in table.schema]
    schema = pa.schema(fields, table.schema.metadata)
    with pa.ipc.new_stream(str(path), schema) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=schema))
    try:
        list(scan_source(str(folder)))
    except DataError as error:
        assert str(folder) in str(error)  # noqa: PT017
