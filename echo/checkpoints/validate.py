"""Whether the parts of a checkpoint fit together: config, weights, generation config, tokenizer.

Loaded as they are, weights that a file lacks would be drawn at random, and ids that mean other
tokens would only show in the transcripts.
"""

import torch
from transformers import PreTrainedModel, WhisperConfig, WhisperTokenizer

from echo.checkpoints.stored import TIED, Checkpoint
from echo.support.errors import DataError, reason

# Settings of generation that are a token's id, or a list of them.
TOKEN_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "no_timestamps_token_id",
    "prev_sot_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)


def check_parts(
    checkpoint: Checkpoint, model_class: type[PreTrainedModel], config: WhisperConfig
) -> WhisperTokenizer | None:
    """Makes all checks of this module.

    Returns:
        The checkpoint's tokenizer, where it has one.

    Raises:
        DataError: something does not fit.
    """
    check_weights(checkpoint, model_class, config)
    check_generation_config(checkpoint)
    tokenizer = checkpoint.tokenizer()
    if tokenizer is not None:
        check_tokenizer(checkpoint, tokenizer)
    return tokenizer


def check_weights(
    checkpoint: Checkpoint, model_class: type[PreTrainedModel], config: WhisperConfig
) -> None:
    """Raises DataError where the weights are not those of the model that the config makes: no
    more, no fewer, of its sizes. Names the first that is not."""
    source, weights = checkpoint.folder, checkpoint.weights
    try:
        with torch.device("meta"):
            model = model_class(config)
    except (
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        AssertionError,
        ArithmeticError,
    ) as error:
        raise DataError(
            f"{source}: its config describes no valid model ({reason(error)})"
        ) from None
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in weights:
        if key not in expected:
            raise DataError(
                f"{source}: its weight {key} is not part of the model that its config describes"
            )
    for key, shape in expected.items():
        if key == TIED and config.tie_word_embeddings and key not in weights:
            continue
        if key not in weights:
            raise DataError(
                f"{source}: lacks the weight {key} of the model that its config describes"
            )
        if weights[key].shape != shape:
            raise DataError(
                f"{source}: its weight {key} is of shape {weights[key].shape}, but its config "
                f"gives it {shape}"
            )


def check_generation_config(checkpoint: Checkpoint) -> None:
    """Raises DataError where the generation config names a token that the model lacks."""
    if checkpoint.generation is None:
        return
    size = checkpoint.config.vocab_size
    content = checkpoint.generation.to_dict()
    for key in TOKEN_IDS:
        value = content.get(key)
        ids = value if isinstance(value, list) else [value]
        if value is not None and not all(type(i) is int and 0 <= i < size for i in ids):
            raise DataError(
                f"{checkpoint.folder}/generation_config.json: its {key} is not of the model's "
                f"{size} tokens"
            )


def check_tokenizer(checkpoint: Checkpoint, tokenizer: WhisperTokenizer) -> None:
    """Raises DataError where the tokenizer and the model mean different tokens by their ids."""
    source = checkpoint.folder
    named = checkpoint.config.to_dict()
    if checkpoint.generation:
        named |= checkpoint.generation.to_dict()
    ids = tokenizer.get_vocab()
    last = 0
    for token, key in (
        ("<|startoftranscript|>", "decoder_start_token_id"),
        ("<|endoftext|>", "eos_token_id"),
        ("<|notimestamps|>", "no_timestamps_token_id"),
    ):
        wanted = named.get(key)
        if isinstance(wanted, int):
            last = max(last, wanted)
            if ids.get(token) != wanted:
                raise DataError(
                    f"{source}: its {key} is {wanted}, but its tokenizer's {token} is "
                    f"{ids.get(token)}"
                )
    # Every token of text has a lower id than these.
    lacking = set(range(last)).difference(ids.values())
    if lacking:
        raise DataError(f"{source}: its tokenizer lacks the token with the id {min(lacking)}")
    size = checkpoint.config.vocab_size
    if max(ids.values()) >= size:
        raise DataError(
            f"{source}: its tokenizer has a token with the id {max(ids.values())}, but its model "
            f"has {size} tokens"
        )
