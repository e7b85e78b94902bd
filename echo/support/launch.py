"""What a launcher says of its processes in the environment. Imports nothing heavy."""

import os

from echo.support.errors import ConfigError

# Other ways of accelerate to share the work, by the variable that asks for each.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism config",
}


def is_main_process() -> bool:
    """Returns whether this is the main process of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Returns how many processes a launcher started. ConfigError where the environment contradicts
    itself, or asks for what cannot train Echo."""
    world, rank = number("WORLD_SIZE", 1), number("RANK", 0)
    number("LOCAL_RANK", 0)
    if world < 1 or not rank < world:
        raise ConfigError(
            f"RANK is {rank} and WORLD_SIZE is {world} in the environment, which is no process of "
            "a launcher: unset both"
        )
    if world > 1 and "RANK" not in os.environ:  # each would wait for others forever
        raise ConfigError(
            f"WORLD_SIZE is {world} in the environment, but RANK is not set: launch with torchrun "
            "or 'accelerate launch', or unset it"
        )
    for variable, name in UNSUPPORTED.items():
        if os.environ.get(variable, "").lower() in ("1", "true"):
            raise ConfigError(f"accelerate's {name} cannot train Echo; DDP and FSDP 2 can")
    return world


def number(variable: str, default: int) -> int:
    """Returns the whole number that a variable of the environment holds."""
    text = os.environ.get(variable, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError(
            f"{variable} is {text[:50]!r} in the environment, but must be a whole number, which "
            "torchrun and 'accelerate launch' set: unset it"
        )
    return int(text)
