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
    from echo.model.config import EchoConfig
    from echo.model.model import EchoForConditionalGeneration
    from echo.support.errors import ConfigError, DataError, EchoError
    from echo.train.run import resume_run
    from echo.train.run import start_run as train_run
    from echo.transcribe.transcribe import TranscribeSettings, transcribe_recordings
else:
    # Where a name is, if it is not the same there.
    RENAMED = {"convert_checkpoint": "convert", "train_run": "start_run"}
    MODULES = {
        "echo.checkpoints.convert": {"convert_checkpoint"},
        "echo.checkpoints.load": {"load_model"},
        "echo.config": {"DecodeSettings", "RunConfig", "load_config"},
        "echo.data.sources": {"ReadOptions", "read_source"},
        "echo.evaluate.compare": {"compare_models"},
        "echo.evaluate.evaluation": {"evaluate_model"},
        "echo.model.config": {"EchoConfig"},
        "echo.model.model": {"EchoForConditionalGeneration"},
        "echo.support.errors": {"ConfigError", "DataError", "EchoError"},
        "echo.train.run": {"resume_run", "train_run"},
        "echo.transcribe.transcribe": {"TranscribeSettings", "transcribe_recordings"},
    }

    def __getattr__(name: str) -> Any:
        module = next((module for module, names in MODULES.items() if name in names), None)
        if module is None:
            raise AttributeError(f"module 'echo' has no attribute {name!r}")
        found = getattr(import_module(module), RENAMED.get(name, name))
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


AUTO_CONFIG = "transformers.models.auto.configuration_auto"


class EchoConfigStub:
    """Stands for `EchoConfig` until a config is read; with that, everything else is registered."""

    model_type = "echo"

    @classmethod
    def from_dict(cls, *args: Any, **kwargs: Any) -> Any:
        # Of the module that registers all.
        from echo.model.model import EchoConfig

        return EchoConfig.from_dict(*args, **kwargs)


class AutoConfigFinder(MetaPathFinder):
    """Finds the module of `AutoConfig` as it is always found, and registers Echo once it is run."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == AUTO_CONFIG else None
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
