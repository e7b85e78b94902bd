"""Whisper's `generate` for models that take audio of any length, in batches.

Whisper pads every segment of a recording to 30 s, so its `generate` passes no mask with the
segments. Here every segment is as long as its audio and has a mask, so the output for a recording
does not depend on the other recordings in the batch.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    StoppingCriteriaList,
    WhisperForConditionalGeneration,
)
from transformers.generation.logits_process import (
    WhisperNoSpeechDetection,
    WhisperTimeStampLogitsProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from echo.model.fallback import Decoded, StopRunaway, most_tokens, read_row
from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.language import known_languages
from echo.model.timestamps import TimestampRules, added_tokens, moved
from echo.support.errors import ConfigError

SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
# The parts of a segment's output that `generate` still needs when it goes on to the next segment.
# The scores of an hour would take gigabytes.
KEPT = ("sequences", "token_timestamps")

SINGLE_TOKENS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "no_timestamps_token_id",
    "prev_sot_token_id",
)
# What a generation config says of its model. All else says how to decode, or has no effect.
OF_THE_MODEL = (*SINGLE_TOKENS, *SUPPRESSED, "max_initial_timestamp_index", "alignment_heads")
OF_ITS_LANGUAGES = ("is_multilingual", "lang_to_id", "task_to_id", "language", "task")


def alignment_heads(model: "EchoGeneration", refused: str) -> list[list[int]]:
    """Returns the layer and number of each head of cross-attention that follows the audio.
    ConfigError, which begins with `refused`, if the generation config names none that exist."""
    heads = getattr(model.generation_config, "alignment_heads", None)
    if not heads:
        raise ConfigError(
            f"{refused}: it has no CTC head, and its generation config names no alignment_heads"
        )
    layers, most = model.config.decoder_layers, model.config.decoder_attention_heads
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < most):
            raise ConfigError(
                f"{refused}: the head {head} of layer {layer} in its alignment_heads is none of "
                f"its {layers} decoder layers with {most} heads"
            )
    return heads


class Heard(NamedTuple):
    """Features (B, n_mels, frames), and how many frames (B,) of each row are not padding."""

    features: torch.Tensor
    frames: torch.Tensor | None = None


class EchoGeneration(WhisperForConditionalGeneration):
    """Echo's changes to Whisper's `generate`."""

    def heard_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the number of frames (B,) after adding silence to `frames` (B,) as in
        training."""
        limits = Limits.of(self.config)
        return frames.new_tensor([limits.padded(n, FRAMES_PER_SECOND) for n in frames.tolist()])

    def generate(  # type: ignore[override, unused-ignore]
        self,
        input_features: torch.Tensor | None = None,
        generation_config: Any = None,
        *,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Like Whisper's `generate`, but respects an `attention_mask` (B, frames) over the
        features. The silence that followed audio in training still counts as audio.

        The mapping that each segment has as its `result` also holds the `logprobs` of its tokens,
        the `temperature` of decoding, `avg_logprob`, and `no_speech_prob` if there is a
        `no_speech_threshold`.
        """
        if input_features is not None and attention_mask is not None:
            heard = self.heard_frames(attention_mask.sum(-1))
            input_features = input_features[..., : heard.max()]
            attention_mask = attention_mask[:, : heard.max()]
            if (mask := frame_mask(heard, input_features)) is not None:
                # After the end of a recording, Whisper sees zeros.
                input_features = input_features.masked_fill(mask[:, None] == 0, 0)
            kwargs["heard"] = heard
        return super().generate(
            input_features, generation_config, attention_mask=attention_mask, **kwargs
        )

    def generate_by(self, *args: Any, **options: Any) -> Any:
        """Like `generate`, but how to decode is decided by the options alone: what the saved
        generation config says of it is left out, see `facts`. A `language` is given by its code."""
        if "language" in options:  # transformers knows the codes of Whisper's languages alone
            options["language"] = f"<|{options['language']}|>"
        saved = self.generation_config
        self.generation_config = facts(saved)
        try:
            return self.generate(*args, **options)
        finally:
            self.generation_config = saved

    def _prepare_generation_config(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        # The second call to `generate`, for a segment, passes these two beside a config, of which
        # transformers warns. They are set afterwards: None must not become the model's own.
        beside = {}
        if generation_config is not None:
            beside = {name: kwargs.pop(name) for name in SUPPRESSED if name in kwargs}
        prepared, others = super()._prepare_generation_config(  # type: ignore[misc]
            generation_config, *args, **kwargs
        )
        prepared.update(**beside)
        return prepared, others

    def _prepare_special_tokens(  # type: ignore[override]
        self, generation_config: Any, kwargs_has_attention_mask: bool | None = None, **kwargs: Any
    ) -> None:
        # False makes transformers warn of padding that it does not know. The encoder's output has
        # its mask, and the tokens have no padding.
        super()._prepare_special_tokens(generation_config, None, **kwargs)  # type: ignore[misc]

    def _retrieve_init_tokens(
        self,
        input_features: torch.Tensor | None,
        batch_size: int,
        generation_config: Any,
        config: Any,
        num_segment_frames: int,
        kwargs: dict[str, Any],
    ) -> torch.Tensor:
        # Whisper's method only passes the features on to `detect_language`, without a mask.
        frames = kwargs.pop("heard", None)
        heard = None if input_features is None else Heard(input_features, frames)
        return super()._retrieve_init_tokens(
            heard, batch_size, generation_config, config, num_segment_frames, kwargs
        )

    def encode(
        self, segment: torch.Tensor, heard: torch.Tensor | None, **options: Any
    ) -> BaseModelOutput:
        """Encodes features (B, n_mels, frames) of which the first `heard` (B,) are not padding."""
        with torch.no_grad():
            mask = frame_mask(heard, segment)
            return self.model.encoder(segment, attention_mask=mask, **options)

    def detect_language(
        self,
        input_features: torch.Tensor | Heard | None = None,
        encoder_outputs: Any = None,
        generation_config: Any = None,
        num_segment_frames: int = 3000,
    ) -> torch.Tensor:
        """Like Whisper's method, for features that may contain padding."""
        if input_features is not None:
            heard = input_features if isinstance(input_features, Heard) else Heard(input_features)
            segment = heard.features[..., :num_segment_frames]
            encoder_outputs = self.encode(segment, heard.frames)
        return super().detect_language(
            encoder_outputs=encoder_outputs, generation_config=generation_config
        )

    def _retrieve_max_frames_and_seek(  # type: ignore[override]
        self, *, attention_mask: torch.Tensor | None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # If all recordings are short, Whisper's method runs to the end of the batch's longest.
        frames, seek = super()._retrieve_max_frames_and_seek(
            attention_mask=attention_mask, **kwargs
        )
        return frames if attention_mask is None else attention_mask.sum(-1).cpu(), seek

    def _get_input_segment(  # type: ignore[override]
        self,
        *,
        input_features: torch.Tensor | None,
        seek: torch.Tensor,
        seek_num_frames: torch.Tensor,
        batch_idx_map: list[int],
        **_: Any,
    ) -> torch.Tensor | None:
        # Whisper's method pads every segment to 30 s.
        if input_features is None:
            return None
        heard = self.heard_frames(seek_num_frames[batch_idx_map])
        starts = seek[batch_idx_map]
        segments = [
            features[:, start : start + count]
            for features, start, count in zip(input_features, starts, heard, strict=True)
        ]
        return torch.stack([F.pad(s, (0, int(heard.max()) - s.shape[-1])) for s in segments])

    def _retrieve_logit_processors(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        processors = super()._retrieve_logit_processors(generation_config, *args, **kwargs)
        for i, processor in enumerate(processors or []):
            if type(processor) is WhisperTimeStampLogitsProcessor:
                added = added_tokens(self.config.vocab_size, processor.timestamp_begin)
                if added:
                    processors[i] = TimestampRules(generation_config, processor.begin_index, added)
        return processors

    def _retrieve_segment(  # type: ignore[override]
        self, *, seek_sequence: torch.Tensor, timestamp_begin: int, **kwargs: Any
    ) -> tuple[list[dict[str, Any]], Any]:
        size = self.config.vocab_size
        added = added_tokens(size, timestamp_begin)
        segments, offset = super()._retrieve_segment(
            seek_sequence=moved(seek_sequence, added, size),
            timestamp_begin=timestamp_begin + added,
            **kwargs,
        )
        for segment in segments:
            segment["tokens"] = moved(segment["tokens"], -added, size)
        return segments, offset

    def _prepare_decoder_input_ids_for_generation(  # type: ignore[override]
        self, *args: Any, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        # transformers would put the decoder's start token first, but Whisper's prompt comes before.
        return model_kwargs.pop("decoder_input_ids"), model_kwargs

    def generate_with_fallback(  # type: ignore[override]
        self,
        segment_input: torch.Tensor | None,
        decoder_input_ids: torch.Tensor,
        cur_bsz: int,
        seek: torch.Tensor,
        batch_idx_map: list[int],
        temperatures: Sequence[float | None],
        generation_config: Any,
        logits_processor: Sequence[Any] | None,
        stopping_criteria: Sequence[Any] | None,
        return_token_timestamps: bool | None,
        do_condition_on_prev_tokens: list[bool],
        is_shortform: bool,
        batch_size: int,
        attention_mask: torch.Tensor | None,
        kwargs: dict[str, Any],
        **options: Any,
    ) -> Any:
        """Like Whisper's method, with these differences:

        - A segment is encoded once for all temperatures, with a mask over its padding, and the
          probability that nobody speaks is measured once.
        - From the second temperature on, rows are decoded one at a time with a fixed seed.
          Whisper's code mixes up the rows of a batch there, and decodes all later segments without
          beams.
        - A segment that stays improbable at every temperature is dropped. Whisper keeps the last
          attempt.
        - If `compression_ratio_threshold` is set, a runaway row is stopped at once and decoded
          again at the next temperature.
        """
        config = generation_config
        frames = None  # of each row, in this segment
        if attention_mask is not None:
            lengths = attention_mask.sum(-1).cpu()
            lengths = lengths.repeat_interleave(len(seek) // len(lengths))  # num_return_sequences
            left = (lengths - seek)[batch_idx_map]
            frames = left.clamp(max=Limits.of(self.config).max_frames)
        if "encoder_outputs" not in kwargs:
            assert segment_input is not None
            encoded = self.encode(
                segment_input,
                None if frames is None else self.heard_frames(frames),
                # Word times need only cross-attention. The encoder's maps would take gigabytes.
                output_attentions=config.output_attentions and not return_token_timestamps,
                output_hidden_states=config.output_hidden_states,
            )
            kwargs = {**kwargs, "encoder_outputs": encoded}
        most = None
        if config.compression_ratio_threshold is not None and frames is not None:
            most = [most_tokens(n / FRAMES_PER_SECOND) for n in frames.tolist()]
        prompt = decoder_input_ids.shape[1]

        def decode(
            rows: slice, temperature: float | None, processors: Sequence[Any]
        ) -> tuple[list[Decoded], type]:
            own = copy.copy(config)
            own.do_sample = temperature is not None and temperature > 0
            own.temperature = temperature if own.do_sample else 1.0
            own.num_beams = 1 if own.do_sample else own.num_beams
            runaway = StopRunaway(most[rows], prompt) if most else None
            criteria = [*(stopping_criteria or []), *([runaway] if runaway else [])]
            returned = GenerationMixin.generate(
                self,
                generation_config=own,
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList(criteria),
                decoder_input_ids=decoder_input_ids[rows],
                # The processors suppress tokens already.
                suppress_tokens=None,
                begin_suppress_tokens=None,
                **options,
                **rows_of(kwargs, rows),
            )
            sequences, outputs = self._postprocess_outputs(
                seek_outputs=returned,
                decoder_input_ids=decoder_input_ids[rows],
                return_token_timestamps=return_token_timestamps,
                generation_config=own,
                is_shortform=is_shortform,
                seek=seek,
                batch_idx_map=batch_idx_map[rows],
            )
            found = [
                read_row(i, tokens, outputs[i], own, temperature, runaway, self.config.vocab_size)
                for i, tokens in enumerate(sequences)
            ]
            return found, type(returned)

        processors = [*(logits_processor or [])]
        detection = next((p for p in processors if isinstance(p, WhisperNoSpeechDetection)), None)
        if detection is not None:
            self._setup_no_speech_detection(processors, segment_input, decoder_input_ids, kwargs)
            # It runs the model if the prompt is longer than one token. Give it the encoder's
            # output, so that the encoder does not run again.
            encoded = select_rows(kwargs["encoder_outputs"], slice(None))
            detection.inputs = {**(detection.inputs or {}), "encoder_outputs": encoded}
        found, kind = decode(slice(None), temperatures[0], processors)
        no_speech: list[float | None] = [None] * len(found)
        if detection is not None:
            no_speech[:] = row_probabilities(detection.no_speech_prob, len(found))
            processors.remove(detection)
        skip = [d.nobody_speaks(p, config) for d, p in zip(found, no_speech, strict=True)]
        for i, p in enumerate(no_speech):
            if skip[i] or not found[i].needs_fallback(config) or len(temperatures) == 1:
                continue
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(0)
                for temperature in temperatures[1:]:
                    [found[i]], _ = decode(slice(i, i + 1), temperature, processors)
                    skip[i] = found[i].nobody_speaks(p, config)
                    if skip[i] or not found[i].needs_fallback(config):
                        break
                else:  # it stayed improbable, or repeats itself
                    skip[i] = found[i].is_improbable(config.logprob_threshold)
        sequences = [d.tokens for d in found]
        outputs = [
            described(d, p, prompt, keep_all=is_shortform)
            for d, p in zip(found, no_speech, strict=True)
        ]
        for i, decoded in enumerate(found):
            is_low = decoded.temperature is None or decoded.temperature < 0.5
            do_condition_on_prev_tokens[i] = config.condition_on_prev_tokens and is_low
        return sequences, outputs, skip, do_condition_on_prev_tokens, kind


def facts(saved: Any) -> GenerationConfig:
    """Returns the generation config that says of the model what `saved` says, and nothing else."""
    keys = (*OF_THE_MODEL, *(OF_ITS_LANGUAGES if known_languages(saved) else ()))
    told = {key: getattr(saved, key, None) for key in keys}
    if languages := told.get("lang_to_id"):  # transformers looks for a language in lower case
        told["lang_to_id"] = {token.lower(): i for token, i in languages.items()}
    return GenerationConfig(
        **{key: value for key, value in told.items() if value is not None}, use_cache=True
    )


def row_probabilities(of_beams: torch.Tensor, rows: int) -> list[float]:
    """Returns the probability of each row, given that of each row's beams, which are the same."""
    return of_beams[:: len(of_beams) // rows].tolist()


def frame_mask(frames: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor | None:
    """Returns the mask (B, length) of features (B, n_mels, length) with 1 at the first `frames`
    (B,) of each row. None if there is no padding."""
    length = features.shape[-1]
    if frames is None or bool((frames >= length).all()):
        return None
    places = torch.arange(length, device=features.device)
    return (places < frames[:, None].to(features.device)).long()


def rows_of(kwargs: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Selects rows of the arguments that `generate` passes on to the model."""
    selected = {**kwargs, "encoder_outputs": select_rows(kwargs["encoder_outputs"], rows)}
    if "decoder_attention_mask" in kwargs:
        selected["decoder_attention_mask"] = kwargs["decoder_attention_mask"][rows]
    return selected


def select_rows(encoded: Any, rows: slice) -> Any:
    """Copies some or all rows of an encoder's output. A copy is needed because `generate` expands
    its input in place for beams."""
    return type(encoded)(
        **{
            key: tuple(x[rows] for x in value) if isinstance(value, tuple) else value[rows]
            for key, value in encoded.items()
        }
    )


def described(decoded: Decoded, no_speech: float | None, prompt: int, keep_all: bool) -> Any:
    """Returns the output of a row, and how it was decoded, if the output is a mapping. `generate`
    counts the `prompt`'s tokens in a segment's indices. It may return the output itself, all of
    which is then needed: `keep_all`."""
    output = decoded.output
    if not isinstance(output, dict):
        return output
    if not keep_all:
        output = {key: output[key] for key in KEPT if key in output}
    if decoded.logprobs is not None:
        output["logprobs"] = F.pad(decoded.logprobs, (prompt, 0))
    return {
        **output,
        "temperature": decoded.temperature,
        "avg_logprob": decoded.avg_logprob,
        "no_speech_prob": no_speech,
    }
