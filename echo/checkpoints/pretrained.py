"""Reads a Whisper or Echo checkpoint as `transformers` keeps it."""

import logging
import reprlib
import shutil
from dataclasses import fields
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig, WhisperConfig, WhisperTokenizer

from echo.checkpoints.generation import GENERATION_FILE
from echo.checkpoints.stored import WEIGHTS_FILE, Checkpoint, StoredTensor
from echo.data.features import N_FFT
from echo.data.tokenizer import load_tokenizer
from echo.model.config import EchoConfig
from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE
from echo.support.errors import DataError, reason
from echo.support.files import is_file_name, read_object, refuse_pipe
from echo.support.hub import check_model
from echo.support.settings import Range

logger = logging.getLogger(__name__)

MOST_LAYERS = 1000
CONFIGS = {"whisper": WhisperConfig, "echo": EchoConfig}
WEIGHTS = (WEIGHTS_FILE, "pytorch_model.bin")  # `transformers` takes the first there is
ADAPTER_FILE = "adapter_config.json"
# Settings of a config that decide what a model returns or how it is trained.
SET_BY_ECHO = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "is_encoder_decoder": True,
    "apply_spec_augment": False,
}
PROBABILITIES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
)
# Settings of Whisper's features, which Echo computes itself.
FEATURES = {
    "sampling_rate": SAMPLE_RATE,
    "hop_length": HOP_LENGTH,
    "n_fft": N_FFT,
    "do_normalize": False,
}
# What `transformers` raises of a config with a wrong value.
NO_CONFIG = (OSError, ValueError, TypeError, AttributeError, KeyError, StrictDataclassError)
# What safetensors and torch raise of a damaged file of weights.
UNREADABLE = (OSError, SafetensorError, EOFError, RuntimeError, ValueError, UnpicklingError)
# What a model folder may hold besides its config and weights.
COMPANIONS = (
    GENERATION_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
)


class PretrainedFolder(Checkpoint):
    """A folder that `from_pretrained` reads. Raises DataError where a file is missing or damaged,
    or the model is neither Whisper's nor Echo's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / ADAPTER_FILE).exists():
            raise DataError(
                f"{folder}: holds a PEFT adapter ({ADAPTER_FILE}) beside the weights: merge it "
                "into them, or remove it"
            )
        self.config = read_config(folder)
        self.generation = read_generation_config(folder)
        for name in COMPANIONS:
            if name.endswith(".json") and (folder / name).exists():
                read_object(folder / name)
        self.check_features()
        self.weights = read_weights(folder)

    def check_features(self) -> None:
        """Raises DataError where the model was trained on other features than Echo computes."""
        wanted = {**FEATURES, "feature_size": self.config.num_mel_bins}
        for name in ("preprocessor_config.json", "processor_config.json"):
            path = self.folder / name
            content = read_object(path) if path.exists() else {}
            told = content.get("feature_extractor", content)
            for key, value in wanted.items():
                if isinstance(told, dict) and told.get(key, value) != value:
                    raise DataError(
                        f"{path}: its {key} is {told[key]!r}, but the model is given features of "
                        f"{value}"
                    )

    def tokenizer(self) -> WhisperTokenizer | None:
        if (self.folder / "tokenizer.json").exists() or (self.folder / "vocab.json").exists():
            return load_tokenizer(self.folder)
        return None

    def write_companions(self, target: Path) -> None:
        for name in COMPANIONS:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, target / name)


def download(source: str) -> Path:
    """Downloads a model of the hub, and returns its folder."""
    check_model(source)
    try:
        folder = Path(snapshot_download(source, allow_patterns=["*.json", "*.txt"]))
        # Repositories hold the same weights in several formats; the last here is CTranslate2's.
        for pattern in ("model.safetensors", "model-*.safetensors", "*model*.bin"):
            snapshot_download(source, allow_patterns=pattern)
            if any(folder.glob(pattern)):
                break
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source}: is neither a folder nor a model of the hub ({reason(error)})"
        ) from None
    return folder


def read_config(folder: Path) -> WhisperConfig:
    path = folder / "config.json"
    content = read_object(path)
    kind = content.get("model_type")
    if kind not in CONFIGS:
        raise DataError(f"{path}: its model_type is {kind!r}, not 'whisper' or 'echo'")
    for key in ("encoder_layers", "decoder_layers"):
        count = content.get(key, 1)
        if type(count) is not int or not 1 <= count <= MOST_LAYERS:  # each of which takes memory
            raise DataError(
                f"{path}: its {key} is {reprlib.repr(count)}, but must be from 1 to {MOST_LAYERS}"
            )
    if content.get("quantization_config"):
        raise DataError(
            f"{path}: has a quantization_config, but only weights that are not quantised can be "
            "read: use the model that it was made from"
        )
    for key in ("dtype", "torch_dtype"):
        dtype = content.get(key)
        if dtype is not None and not is_float(dtype):
            raise DataError(f"{path}: its {key} is {dtype!r}, which is no floating-point type")
    try:
        config = CONFIGS[kind].from_pretrained(folder)
    except NO_CONFIG as error:
        raise DataError(f"{path}: is no {kind} config ({reason(error)})") from None
    for key in PROBABILITIES:
        value = getattr(config, key)
        if not Range(0, 1).allows(value):
            raise DataError(f"{path}: its {key} is {value}, but must be {Range(0, 1)}")
    width = config.median_filter_width
    if width < 1 or width % 2 == 0:
        raise DataError(f"{path}: its median_filter_width is {width}, but must be odd")
    changes = {key: value for key, value in SET_BY_ECHO.items() if getattr(config, key) != value}
    for key, value in changes.items():
        setattr(config, key, value)
    # transformers refuses to write a config with settings of generation.
    for key in config._get_generation_parameters():
        setattr(config, key, None)
    usual = GenerationConfig._get_default_generation_params()
    known = {each.name for each in fields(config)}
    ignored = [k for k in usual if k not in known and content.get(k) not in (None, usual[k])]
    if changes or ignored:
        logger.warning("%s: not used: %s", path, ", ".join([*changes, *ignored]))
    return config


def is_float(dtype: object) -> bool:
    """Returns whether this is the name of one of torch's types of floating-point numbers."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    return isinstance(found, torch.dtype) and found.is_floating_point


def read_generation_config(folder: Path) -> GenerationConfig | None:
    """The generation config, where there is one."""
    path = folder / GENERATION_FILE
    if not path.exists():
        return None
    # With _from_model_config set, `transformers` drops the settings that only Whispers have.
    content = {**read_object(path), "_from_model_config": False}
    try:
        return GenerationConfig.from_dict(content)
    except NO_CONFIG as error:
        raise DataError(f"{path}: is no generation config ({reason(error)})") from None


def read_weights(folder: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a folder, in one file or several, by Whisper's names for them."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            tensors = read_tensors(folder / name)
        elif index.exists():
            tensors = read_shards(index)
        else:
            continue
        if any(key.startswith("model.") for key in tensors):
            return tensors
        # A WhisperModel saved by itself lacks the prefix.
        return {f"model.{key}": tensor for key, tensor in tensors.items()}
    raise DataError(f"{folder}: holds no weights (neither {' nor '.join(WEIGHTS)})")


def read_shards(index: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of several files, each from the file that the index names."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(map(is_file_name, places.values())):
        raise DataError(f"{index}: has no weight_map from weights to files beside it")
    files = {name: read_tensors(index.parent / name) for name in sorted(set(places.values()))}
    for key, name in places.items():
        if key not in files[name]:
            raise DataError(f"{index}: has the weight {key} in {name}, which does not hold it")
    return {key: files[name][key] for key, name in places.items()}


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    return {
        key: StoredTensor(
            tuple(tensor.shape), partial(copy_tensor, path, key), f"{path}: its weight {key}"
        )
        for key, tensor in map_tensors(path).items()
    }


def copy_tensor(path: Path, key: str) -> torch.Tensor:
    # A file's tensors share one mapping, which would keep all that was read of it in memory.
    return map_tensors(path, key)[key].clone(memory_format=torch.contiguous_format)


def map_tensors(path: Path, *keys: str) -> dict[str, torch.Tensor]:
    """Maps the tensors of a file, of safetensors these at least."""
    is_pickled = path.suffix == ".bin"
    try:
        refuse_pipe(path)
        if not is_pickled:
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in keys or file.keys()}
        # weights_only: nothing is unpickled that could run code.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE as error:
        kind = "PyTorch weights" if is_pickled else "safetensors"
        raise DataError(f"{path}: cannot be read as {kind} ({reason(error)})") from None
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise DataError(f"{path}: does not hold named tensors")
    return tensors
