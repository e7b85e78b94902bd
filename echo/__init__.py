"""Train, evaluate and use speech recognition with focused attention.

What `__all__` names is imported when it is first used, so `import echo` takes no time. After it,
the Auto classes and `pipeline` of `transformers` know Echo's models.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "DecodeSettings",
    "EchoConfig",
    "EchoError",
    "EchoForConditionalGeneration",
    "ReadOptions",
    "RunConfig",
    "TranscribeSettings",
    "__version__",
    "compare_models",
    "convert_checkpoint",
    "evaluate_model",
    "load_config",
    "load_model",
    "read_source",
    "resume_run",
    "train_run",
    "transcribe_recordings",
]

if TYPE_CHECKING:
    from echo.checkpoints.convert import convert as convert_checkpoint
    from echo.checkpoints.load import load_model
    from echo.config import DecodeSettings, RunConfig, load_config
    from echo.data.sources import ReadOptions, read_source
    from echo.evaluate.compare import compare_models
    from echo.evaluate.evaluation import evaluate_model
    from echo.model.model import EchoConfig, EchoForConditionalGeneration
    from echo.support.errors import ConfigError, DataError, EchoError
    from echo.train.run import resume_run
    from echo.train.run import start_run as train_run
    from echo.transcribe.transcribe import TranscribeSettings, transcribe_recordings
else:
    PLACES = {
        "convert_checkpoint": "echo.checkpoints.convert.convert",
        "load_model": "echo.checkpoints.load.load_model",
        "DecodeSettings": "echo.config.DecodeSettings",
        "RunConfig": "echo.config.RunConfig",
        "load_config": "echo.config.load_config",
        "ReadOptions": "echo.data.sources.ReadOptions",
        "read_source": "echo.data.sources.read_source",
        "compare_models": "echo.evaluate.compare.compare_models",
        "evaluate_model": "echo.evaluate.evaluation.evaluate_model",
        "EchoConfig": "echo.model.model.EchoConfig",
        "EchoForConditionalGeneration": "echo.model.model.EchoForConditionalGeneration",
        "ConfigError": "echo.support.errors.ConfigError",
        "DataError": "echo.support.errors.DataError",
        "EchoError": "echo.support.errors.EchoError",
        "resume_run": "echo.train.run.resume_run",
        "train_run": "echo.train.run.start_run",
        "TranscribeSettings": "echo.transcribe.transcribe.TranscribeSettings",
        "transcribe_recordings": "echo.transcribe.transcribe.transcribe_recordings",
    }

    def __getattr__(name: str) -> Any:
        if name not in PLACES:
            raise AttributeError(f"module 'echo' has no attribute {name!r}")
        module, _, attribute = PLACES[name].rpartition(".")
        found = globals()[name] = getattr(import_module(module), attribute)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


AUTO_CONFIG = "transformers.models.auto.configuration_auto"


class EchoConfigStub:
    """Stands for `EchoConfig` until a config is read; with that, everything else is registered."""

    model_type = "echo"

    @classmethod
    def from_dict(cls, *args: Any, **kwargs: Any) -> Any:
        from echo.model.model import EchoConfig

        return EchoConfig.from_dict(*args, **kwargs)


class AutoConfigFinder(MetaPathFinder):
    """Finds the module of `AutoConfig` as it is always found, and registers Echo once it is run."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != AUTO_CONFIG:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register(auto: ModuleType) -> None:
    """Makes the stub known to `AutoConfig`, unless the model itself is registered."""
    if "echo" not in auto.CONFIG_MAPPING:
        auto.AutoConfig.register("echo", EchoConfigStub)


if AUTO_CONFIG in sys.modules:
    register(sys.modules[AUTO_CONFIG])
else:
    sys.meta_path.insert(0, AutoConfigFinder())
