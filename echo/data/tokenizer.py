"""Tokenizers: those trained for a run from scratch, and those of existing checkpoints."""

import json
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from echo.model.timestamps import TIMESTAMPS
from echo.support.errors import DataError, reason

# The ids of the text come first and <|notimestamps|> last: Whisper's decoding takes every id
# after that one for a timestamp. Padding has its own token, so that the end is learned.
START, WITHOUT_TIMESTAMPS = "<|startoftranscript|>", "<|notimestamps|>"
SPECIAL_TOKENS = ("<|endoftext|>", START, "<|pad|>", WITHOUT_TIMESTAMPS)
BPE_SIZE = 512
TIMESTAMP_SECONDS = 0.02
MARK = "<|"  # which every special token begins with


def train_tokenizer(
    texts: Iterable[str],
    kind: Literal["characters", "bpe"] = "characters",
    size: int | None = None,
) -> WhisperTokenizer:
    """Makes a tokenizer from transcripts; the same texts make the same vocabulary.

    Args:
        kind: "characters" has one token for each character that occurs in the texts, and
            `encode_transcript` refuses any other; "bpe" is byte-level, so that nothing is unknown.
        size: how many tokens "bpe" has at most, the special ones included; 512 unless told.

    Raises:
        DataError: the texts are all empty, or `size` is too small for the 256 bytes.
    """
    return own_tokenizer(*train_vocabulary(texts, kind, size))


def train_vocabulary(
    texts: Iterable[str], kind: Literal["characters", "bpe"], size: int | None = None
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Returns the tokens of `train_tokenizer` with their ids, and its merges."""
    lines = [as_spoken(text) for text in texts]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError("a tokenizer cannot be trained: the transcripts hold no text")
    vocab, merges = _characters(lines) if kind == "characters" else _bpe(lines, size or BPE_SIZE)
    for token in SPECIAL_TOKENS:
        vocab[token] = len(vocab)
    return vocab, merges


def own_tokenizer(vocab: dict[str, int], merges: Iterable[Sequence[str]]) -> WhisperTokenizer:
    # WhisperTokenizer, because pipelines and `generate` call methods that only it has, and
    # because `AutoTokenizer` finds it by name. It is always a byte-level BPE.
    return WhisperTokenizer(
        vocab=vocab,
        merges=[(left, right) for left, right in merges],  # pairs, where JSON has lists
        pad_token="<|pad|>",
        extra_special_tokens=[START, WITHOUT_TIMESTAMPS],
        predict_timestamps=True,  # leaves <|notimestamps|> out of the prompt
    )


def ctc_tokenizer(config: Any, tokenizer: Any) -> Any:
    """Returns the tokenizer of the CTC head of a model with this `EchoConfig`: its own, or the
    decoder's. DataError if the config's makes none."""
    own = config.ctc_vocabulary
    if own is None:
        return tokenizer
    try:
        return own_tokenizer(own["vocab"], own["merges"])
    except Exception as error:  # for damaged entries the libraries have no one base
        raise DataError(
            f"config.json: its ctc_vocabulary makes no tokenizer ({reason(error)})"
        ) from None


def text_ids(tokenizer: WhisperTokenizer, text: str) -> list[int]:
    """Returns the tokens of a text, without special ones. A character that the tokenizer lacks is
    written in its other case, or left out."""

    def encode(text: str) -> list[int]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert isinstance(ids, list)
        return ids

    def knows(text: str) -> bool:
        return tokenizer.decode(encode(text)) == text

    ids = encode(text)
    if tokenizer.decode(ids) == text:
        return ids
    forms = [(c, c.lower(), c.upper()) for c in text]
    return encode("".join(next(filter(knows, form), "") for form in forms))


def load_tokenizer(source: str | Path) -> WhisperTokenizer:
    """Loads the tokenizer in a folder, or of a checkpoint on the hub. DataError if there is none,
    or it is not a Whisper tokenizer."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # for damaged files the libraries have no one base
        raise DataError(f"{source}: no tokenizer can be loaded ({reason(error)})") from error
    if not isinstance(tokenizer, WhisperTokenizer):
        raise DataError(f"{source}: holds a {type(tokenizer).__name__}, not a WhisperTokenizer")
    if not tokenizer.vocab_size:  # what is made of a folder whose tokenizer.json is gone
        raise DataError(f"{source}: holds a tokenizer without a vocabulary")
    ids = tokenizer.get_vocab()
    for token in (START, WITHOUT_TIMESTAMPS, tokenizer.eos_token):
        if token not in ids:
            raise DataError(f"{source}: its tokenizer lacks the token {token}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.clean_up_tokenization_spaces = False  # a text is decoded as it was written
    return tokenizer


def encode_transcript(
    tokenizer: WhisperTokenizer, text: str, prompt: Sequence[int] | None = None
) -> list[int]:
    """Returns the decoder's whole target sequence, from the decoder's start token to end-of-text.
    Of an empty text it is the prompt and the end.

    A trained tokenizer gives [<|startoftranscript|>, text..., <|endoftext|>]; a Whisper
    checkpoint's puts its further prompt (language, task, <|notimestamps|>) after the first. The
    decoder reads ids[:-1] and its labels are ids[1:]. White space counts as single spaces.

    Args:
        prompt: the tokens before the text, in place of the tokenizer's own.

    Raises:
        DataError: the text has characters that the tokenizer lacks, or its special tokens.
    """
    spoken = as_spoken(text)
    ids = tokenizer(spoken).input_ids
    if (decoded := tokenizer.decode(ids, skip_special_tokens=True)) != spoken:
        lost = "".join(sorted(set(spoken) - set(decoded)))
        raise DataError(
            f"the tokenizer cannot write {reprlib.repr(spoken.strip())}: it keeps "
            f'{reprlib.repr(decoded.strip())}, without "{lost}"'
        )
    return ids if prompt is None else [*prompt, *ids[len(tokenizer.prefix_tokens) :]]


def is_lossless(tokenizer: WhisperTokenizer) -> bool:
    """Tells whether a tokenizer can write every text without a `MARK`: it has all bytes."""
    backend = tokenizer.backend_tokenizer
    tokens = tokenizer.get_vocab()
    return (
        backend.normalizer is None
        and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel)
        and isinstance(backend.decoder, decoders.ByteLevel)
        and all(byte in tokens for byte in bytes_to_unicode().values())
        and all(each.content.startswith(MARK) for each in tokenizer.added_tokens_decoder.values())
    )


class Segment(NamedTuple):
    """A transcript within a window: its times in seconds, and its whole target sequence."""

    start: float
    end: float
    ids: list[int]


def join_segments(
    tokenizer: WhisperTokenizer, segments: Sequence[Segment], begun: float | None = None
) -> list[int]:
    """Returns the target sequence of several segments with their times, in steps of 20 ms, after
    the prompt of the first: the beginning in the place of <|notimestamps|>, and the end before the
    end of text. `begun` is the time in seconds at which one more segment begins, whose end is not
    heard. DataError if the tokenizer has no timestamps, as those that Echo trains have none."""
    without = no_timestamps_id(tokenizer)
    first = segments[0].ids
    if without not in first:
        raise DataError("the tokenizer has no timestamps to teach (data.timestamps)")

    def at(seconds: float) -> int:
        return without + 1 + min(round(seconds / TIMESTAMP_SECONDS), TIMESTAMPS - 1)

    joined = first[: first.index(without)]
    for start, end, ids in segments:
        joined += [at(start), *ids[ids.index(without) + 1 : -1], at(end)]
    return [*joined, *([] if begun is None else [at(begun)]), first[-1]]


def no_timestamps_id(tokenizer: WhisperTokenizer) -> int:
    """Returns the token after which the ids of timestamps come, where a tokenizer has them."""
    return token_id(tokenizer, WITHOUT_TIMESTAMPS)


def token_id(tokenizer: WhisperTokenizer, token: str) -> int:
    """Returns the id of a special token. Raises DataError where the tokenizer lacks it."""
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or (found == tokenizer.unk_token_id and token != tokenizer.unk_token):
        raise DataError(f"the tokenizer lacks the token {token}")
    assert isinstance(found, int)
    return found


def has_timestamps(tokenizer: WhisperTokenizer) -> bool:
    """Tells whether a tokenizer has timestamps: a checkpoint's, whose prompt can leave them out."""
    return no_timestamps_id(tokenizer) in tokenizer.prefix_tokens


def timestamp_ids(tokenizer: WhisperTokenizer) -> range:
    """Returns the ids of Whisper's timestamps, which need not be tokens of the tokenizer."""
    first = no_timestamps_id(tokenizer) + 1
    return range(first, first + TIMESTAMPS)


def prompt_ids(tokenizer: WhisperTokenizer, text: str, most: int, hotwords: str = "") -> list[int]:
    """Returns text that comes before what is heard, as the decoder reads it before its start token:
    <|startofprev|>, the hotwords, and the text's last tokens, `most` in all; none where there is
    neither. Where both do not fit, hotwords stay and the text is cut."""
    words, before = (
        tokenizer(as_spoken(part), add_special_tokens=False).input_ids if part.strip() else []
        for part in (hotwords, text)
    )
    words = words[: max(0, most - 1)]
    room = max(0, most - 1 - len(words))
    ids = [*words, *before[max(0, len(before) - room) :]]
    return [token_id(tokenizer, "<|startofprev|>"), *ids] if ids else []


def special_ids(tokenizer: Any) -> torch.Tensor:
    """Returns the tokens that are not part of a text, sorted: timestamps too."""
    ids = set(tokenizer.all_special_ids)
    if has_timestamps(tokenizer):
        ids.update(timestamp_ids(tokenizer))
    return torch.tensor(sorted(ids))


def decode_transcripts(
    tokenizer: WhisperTokenizer, ids: list[list[int]] | np.ndarray | torch.Tensor
) -> list[str]:
    """Returns the text of each sequence of (batch, tokens) ids, without special tokens."""
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def as_spoken(text: str) -> str:
    # In Whisper's vocabulary a word begins with its space, and so does the text it decodes: a
    # checkpoint finds its first word far likelier with the space than without.
    return " " + " ".join(text.split()) if text else ""


def _characters(lines: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    # As a byte-level BPE has them: UTF-8 bytes, of which a printable character stands for each.
    printable = bytes_to_unicode()
    characters = sorted(
        "".join(map(printable.__getitem__, c.encode())) for c in set().union(*lines)
    )
    # A character of several bytes is put together from the left, a byte at a time.
    steps = [(c[: i - 1], c[i - 1], c[:i]) for c in characters for i in range(2, len(c) + 1)]
    tokens = dict.fromkeys(characters)
    tokens |= dict.fromkeys(token for step in steps for token in step)
    merges = dict.fromkeys((left, right) for left, right, _ in steps)
    return {token: i for i, token in enumerate(tokens)}, list(merges)


def _bpe(lines: list[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    least = len(bytes_) + len(SPECIAL_TOKENS)
    if size < least:
        raise DataError(f"a BPE tokenizer of {size} tokens is too small: it needs {least} or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL_TOKENS), initial_alphabet=bytes_, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]
