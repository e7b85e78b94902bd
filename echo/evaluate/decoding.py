"""Transcribing a set of utterances by free decoding."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from transformers import LogitsProcessorList

from echo.checkpoints.load import LoadedModel
from echo.config import DecodeSettings, OnError
from echo.data.batch import Batch
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches
from echo.data.tokenizer import decode_transcripts, special_ids, text_ids
from echo.data.utterance import Utterance
from echo.evaluate.ctc_alignment import WordTimes, word_times
from echo.evaluate.ctc_prefix import CtcPrefixScorer, CtcTextScorer
from echo.evaluate.decodings import joint_weight
from echo.model.fallback import most_tokens, token_logprobs
from echo.model.geometry import FRAMES_PER_SECOND, Limits, encoder_lengths
from echo.model.model import EchoForConditionalGeneration, EncoderOutput
from echo.support.distributed import ALONE, Processes
from echo.support.errors import ConfigError, DataError
from echo.support.progress import progress_bar


@dataclass(frozen=True)
class Transcripts:
    """Transcripts in the order of the utterances, which have the durations that were heard.
    Utterances that were left out are missing."""

    utterances: list[Utterance]
    texts: list[str]
    seconds: float  # work time of the slowest process: audio decoding, features, transcription
    times: Mapping[str, WordTimes] = field(default_factory=dict)  # by id, where they are known

    @property
    def rtfx(self) -> float:
        return real_time_factor([self])


def real_time_factor(several: Sequence["Transcripts"]) -> float:
    """Seconds of audio per second of work, over transcripts of several sets."""
    audio = sum(u.duration for transcripts in several for u in transcripts.utterances)
    return audio / max(sum(transcripts.seconds for transcripts in several), 1e-9)


def transcribe_set(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    settings: DecodeSettings,
    on_error: OnError = "raise",
    progress: bool = False,
    processes: Processes = ALONE,
    limits: Limits | None = None,
) -> Transcripts:
    """Decodes all utterances, greedily or with beams, using a cache.

    Batches hold utterances of similar length. Several processes can share the work, and each of
    them returns all transcripts. The model's mode (training or evaluation) is restored afterwards.
    Limits and padding are the model's own unless they are given.

    Raises:
        DataError: an utterance cannot be read and `on_error` is "raise", or none can.
    """
    model = loaded.model
    reader = ExampleReader.of(model, loaded.tokenizer, labelled=False, limits=limits)
    training = model.training
    model.eval()
    utterances = [*utterances]  # those in columns would be other objects each time
    number = {id(u): i for i, u in enumerate(utterances)}
    found: dict[int, tuple[str, WordTimes | None, float]] = {}
    started = time.perf_counter()
    bar = progress_bar(total=len(utterances), desc="decoding", leave=False, shown=progress)
    share = processes.rank, processes.world
    with processes.together(), bar:
        for batch in evaluation_batches(
            utterances, reader, settings.max_batch_seconds, on_error, *share
        ):
            decoded = decode_with_times(loaded, batch, settings)
            columns = zip(batch.utterances, decoded, batch.seconds, strict=True)
            found |= {number[id(u)]: (*d, seconds) for u, d, seconds in columns}
            bar.update(len(decoded))
    parts = processes.gather((found, time.perf_counter() - started))
    model.train(training)
    heard = {i: decoded for part, _ in parts for i, decoded in part.items()}
    if utterances and not heard:
        raise DataError(f"none of {len(utterances)} utterances can be read")
    kept = sorted(heard)
    return Transcripts(
        [replace(utterances[i], duration=heard[i][2]) for i in kept],
        [heard[i][0] for i in kept],
        max(seconds for _, seconds in parts),
        {utterances[i].id: times for i in kept if (times := heard[i][1]) is not None},
    )


def decode_batch(loaded: LoadedModel, batch: Batch, settings: DecodeSettings) -> list[str]:
    """Transcribes one batch."""
    return decode_transcripts(loaded.tokenizer, generate(loaded, batch, settings))


def decode_with_times(
    loaded: LoadedModel, batch: Batch, settings: DecodeSettings
) -> list[tuple[str, WordTimes | None]]:
    """Transcribes one batch. Each transcript comes with the times of its words, if the model has a
    CTC head that can have heard it.

    Raises:
        ConfigError: the CTC head is to write alone, and the model has none.
    """
    encoded = encode(loaded.model, batch)
    if settings.ctc_alone:
        path = best_ctc_tokens(loaded, batch, encoded)
        texts = decode_transcripts(loaded.ctc_tokenizer, path)
    else:
        texts = decode_transcripts(loaded.tokenizer, generate(loaded, batch, settings, encoded))
    if not loaded.model.config.ctc:
        return [(text, None) for text in texts]
    words = [[f" {word}" for word in text.split()] for text in texts]
    return [*zip(texts, times_of(loaded, batch, encoded, words), strict=True)]


@torch.inference_mode()
def best_ctc_tokens(loaded: LoadedModel, batch: Batch, encoded: EncoderOutput) -> torch.Tensor:
    """Returns the CTC head's best path (B, frames): the most probable token of each frame, with
    blanks, which decode to nothing, in place of repetitions and padding."""
    if not loaded.model.config.ctc:
        raise ConfigError("decode.ctc_alone needs a model with a CTC head")
    blank = loaded.ctc_tokenizer.pad_token_id
    best = loaded.model.ctc_logits(encoded).argmax(-1)
    again = F.pad(best[:, 1:] == best[:, :-1], (1, 0))
    frames = torch.arange(best.shape[1], device=best.device)
    padding = frames >= encoder_lengths(batch.attention_mask.to(best.device))[:, None]
    return best.masked_fill(again | padding, blank)


@torch.inference_mode()
def times_of(
    loaded: LoadedModel, batch: Batch, encoded: EncoderOutput, words: Sequence[Sequence[str]]
) -> Iterator[WordTimes | None]:
    """Yields the times of each utterance's `words`, which begin with their spaces, by the CTC
    head."""
    log_probs = loaded.model.ctc_logits(encoded).float().log_softmax(-1).cpu()
    frames = encoder_lengths(batch.attention_mask).tolist()
    for log, count, said in zip(log_probs, frames, words, strict=True):
        yield word_times(log[:count], said, loaded.ctc_tokenizer)


def decode_with_confidence(
    loaded: LoadedModel, batch: Batch, settings: DecodeSettings
) -> list[tuple[str, float]]:
    """Transcribes one batch. Each transcript comes with a confidence: the geometric mean of its
    token probabilities."""
    output = generate(loaded, batch, settings, return_dict_in_generate=True, output_scores=True)
    tokens = output.sequences[:, -len(output.scores) :].cpu()
    special = special_ids(loaded.tokenizer)
    found = []
    for i, text in enumerate(decode_transcripts(loaded.tokenizer, tokens)):
        logprobs = token_logprobs([step[i].cpu() for step in output.scores], tokens[i], None)
        said = logprobs[~torch.isin(tokens[i], special)]
        found.append((text, math.exp(said.mean()) if len(said) else 0.0))
    return found


@torch.inference_mode()
def encode(model: EchoForConditionalGeneration, batch: Batch) -> EncoderOutput:
    batch = batch.to(model.device)
    return model.model.encoder(
        batch.input_features.to(model.dtype), attention_mask=batch.attention_mask
    )


def spelling(loaded: LoadedModel, special: Set[int]) -> Callable[[int], list[int]]:
    """Returns what writes a token of the decoder in those of a CTC head; special ones have none."""

    @cache
    def spell(token: int) -> list[int]:
        text = "" if token in special else loaded.tokenizer.decode([token])
        return text_ids(loaded.ctc_tokenizer, text)

    return spell


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    batch: Batch,
    settings: DecodeSettings,
    encoded: EncoderOutput | None = None,
    **options: Any,
) -> Any:
    """Runs `generate` on one batch, whose encoder's output may be known already. Options are passed
    on, and may change what is returned."""
    model, tokenizer = loaded.model, loaded.tokenizer
    if encoded is None:
        encoded = encode(model, batch)
    batch = batch.to(model.device)
    processors = LogitsProcessorList()
    if (weight := joint_weight(settings, model.config)) > 0:
        heard = model.ctc_logits(encoded), encoder_lengths(batch.attention_mask)
        ids = loaded.ctc_tokenizer.pad_token_id, tokenizer.eos_token_id
        special = special_ids(tokenizer)
        processors.append(
            CtcTextScorer(*heard, weight, *ids, spelling(loaded, set(special.tolist())))
            if model.config.ctc_vocabulary
            else CtcPrefixScorer(*heard, weight, *ids, special.to(model.device))
        )
    longest = batch.attention_mask.shape[1] / FRAMES_PER_SECOND
    told = {key: value for key, value in batch.told._asdict().items() if value is not None}
    return model.generate_by(
        encoder_outputs=encoded,
        attention_mask=batch.attention_mask,
        logits_processor=processors,
        max_length=min(most_tokens(longest), model.config.max_target_positions),
        num_beams=settings.beams,
        do_sample=False,
        **told,
        **options,
    )
