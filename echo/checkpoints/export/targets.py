"""What a model can be exported to. Imports nothing heavy, so that a slip is answered at once."""

from echo.support.errors import ConfigError

# The precisions of each target; without one named, the first, or the checkpoint's own where the
# list begins with None.
TARGETS: dict[str, tuple[str | None, ...]] = {
    "whisper": (None,),
    "ctranslate2": (
        None,
        "float32",
        "float16",
        "bfloat16",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
    ),
    "ggml": ("float16", "float32", "int8"),
    "onnx": ("float32", "int8"),
}


def check_target(target: str, quantization: str | None) -> None:
    """
    Raises:
        ConfigError: there is no such target, or it has no such precision.
    """
    if target not in TARGETS:
        raise ConfigError(f"--to is {target!r}, but must be one of: {', '.join(TARGETS)}")
    known = [precision for precision in TARGETS[target] if precision]
    if quantization is not None and quantization not in known:
        choice = f"one of: {', '.join(known)}" if known else "left out"
        raise ConfigError(
            f"--quantization is {quantization!r}, but for {target} it must be {choice}"
        )
