"""Echo's models in `transformers`: after `import echo`, its Auto classes and `pipeline` know them.

Neither `transformers` nor torch is imported for this, and a model's code only with the first model.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

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
