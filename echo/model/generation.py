"""Whisper's `generate` for models that take audio of any length, in batches.

Whisper pads every segment of a recording to 30 s, so its `generate` passes no mask with the
segments. Here padding is marked in the features themselves, so it stays with them. The output for
a recording does not depend on the other recordings in the batch.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import StoppingCriteriaList, WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperNoSpeechDetection

from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.runaway import StopRunaway, most_tokens

# Marks padding. No audio has this log energy: the features have a finite floor.
PADDING = -torch.inf
SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")


def marked_frames(features: torch.Tensor) -> torch.Tensor | None:
    """Returns the mask (B, frames) of features (B, n_mels, frames) with marked padding: 1 at valid
    frames. None if there is no padding."""
    padding = features[:, 0] == PADDING
    return (~padding).long() if padding.any() else None


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
        features. The silence that followed audio in training still counts as audio."""
        if input_features is not None and attention_mask is not None:
            heard = self.heard_frames(attention_mask.sum(-1))
            input_features = input_features[..., : heard.max()]
            attention_mask = attention_mask[:, : heard.max()]
            frames = torch.arange(input_features.shape[-1], device=heard.device)
            padding = frames >= heard[:, None]
            input_features = input_features.masked_fill(padding[:, None], PADDING)
        return super().generate(
            input_features, generation_config, attention_mask=attention_mask, **kwargs
        )

    def _prepare_generation_config(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        # Whisper's method passes these two beside a config, of which transformers warns. They are
        # set afterwards, as there: None must not become the model's own.
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
        # False makes transformers warn of padding that it does not know. It is marked in the
        # features, and the tokens have none.
        super()._prepare_special_tokens(generation_config, None, **kwargs)  # type: ignore[misc]

    def _retrieve_max_frames_and_seek(  # type: ignore[override]
        self,
        batch_size: int,
        attention_mask: torch.Tensor | None,
        total_input_frames: int,
        is_shortform: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # If all recordings are short, Whisper's method runs to the end of the batch's longest.
        frames, seek = super()._retrieve_max_frames_and_seek(
            batch_size, attention_mask, total_input_frames, is_shortform
        )
        return frames if attention_mask is None else attention_mask.sum(-1).cpu(), seek

    def _get_input_segment(  # type: ignore[override]
        self,
        input_features: torch.Tensor | None,
        seek: torch.Tensor,
        seek_num_frames: torch.Tensor,
        num_segment_frames: int,
        cur_bsz: int,
        batch_idx_map: list[int],
    ) -> torch.Tensor | None:
        # Whisper's method pads every segment to 30 s.
        if input_features is None:
            return None
        heard = self.heard_frames(seek_num_frames)
        segments = []
        for features, i in zip(input_features, batch_idx_map, strict=True):
            segment = features[:, seek[i] : seek[i] + heard[i]]
            # After the end of a recording, Whisper sees zeros.
            silence = pad(segment.masked_fill(segment == PADDING, 0), int(heard[i]), 0)
            segments.append(pad(silence, int(heard[batch_idx_map].max()), PADDING))
        return torch.stack(segments)

    def _prepare_text_encoder_decoder_kwargs_for_generation(
        self, inputs_tensor: Any, model_kwargs: Any, model_input_name: Any, generation_config: Any
    ) -> Any:
        # Word times need only cross-attention. The encoder's maps would take gigabytes.
        if getattr(generation_config, "return_token_timestamps", False):
            generation_config = copy.copy(generation_config)
            generation_config.output_attentions = False
        # Give the encoder the mask from the marked padding. Any other mask does not match this
        # segment.
        marked = {**model_kwargs, "attention_mask": marked_frames(inputs_tensor)}
        encoded = super()._prepare_text_encoder_decoder_kwargs_for_generation(  # type: ignore[misc]
            inputs_tensor, marked, model_input_name, generation_config
        )
        return {**model_kwargs, "encoder_outputs": encoded["encoder_outputs"]}

    def detect_language(
        self,
        input_features: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        generation_config: Any = None,
        num_segment_frames: int = 3000,
    ) -> torch.Tensor:
        """Like Whisper's method, for features that may contain marked padding."""
        if input_features is not None:
            segment = input_features[..., :num_segment_frames]
            with torch.no_grad():
                encoder_outputs = self.model.encoder(segment, attention_mask=marked_frames(segment))
        return super().detect_language(
            encoder_outputs=encoder_outputs, generation_config=generation_config
        )

    def _setup_no_speech_detection(  # type: ignore[override]
        self, logits_processor: Any, segment_input: torch.Tensor, ids: torch.Tensor, kwargs: Any
    ) -> None:
        super()._setup_no_speech_detection(logits_processor, segment_input, ids, kwargs)
        # The detection runs the model if the prompt is longer than one token. Give it the encoder's
        # output, so that the encoder does not run again.
        encoded = select_rows(kwargs["encoder_outputs"], slice(None))
        no_speech_detection(logits_processor).inputs["encoder_outputs"] = encoded

    def _prepare_decoder_input_ids_for_generation(  # type: ignore[override]
        self,
        batch_size: int,
        model_input_name: str,
        model_kwargs: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        # transformers would put the decoder's start token first, but Whisper's prompt comes before.
        return model_kwargs.pop("decoder_input_ids"), model_kwargs

    def generate_with_fallback(  # type: ignore[override]
        self,
        segment_input: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        cur_bsz: int,
        batch_idx_map: list[int],
        temperatures: Sequence[float | None],
        generation_config: Any,
        do_condition_on_prev_tokens: list[bool],
        is_shortform: bool,
        batch_size: int,
        attention_mask: torch.Tensor | None,
        kwargs: dict[str, Any],
        **shared: Any,
    ) -> Any:
        """Like Whisper's method, with four differences:

        - A segment is encoded once for all temperatures.
        - From the second temperature on, rows are decoded one at a time with a fixed seed.
          Whisper's code mixes up the rows of a batch there, and decodes all later segments without
          beams.
        - A segment that stays improbable at every temperature is dropped. Whisper keeps the last
          attempt.
        - If `compression_ratio_threshold` is set, a runaway row is stopped at once and decoded
          again at the next temperature.

        `attention_mask` only says how long each recording is: padding is marked in the segments
        themselves.
        """
        most = None
        if generation_config.compression_ratio_threshold is not None and attention_mask is not None:
            frames = (attention_mask.sum(-1).cpu() - shared["seek"])[batch_idx_map]
            most = [most_tokens(n / FRAMES_PER_SECOND) for n in frames.tolist()]
        given = list(shared.pop("stopping_criteria", None) or [])

        def stopping(config: Any, rows: slice) -> Any:
            """Returns the stopping criteria for these rows, and stores the runaway criterion in
            `config` for `_need_fallback`."""
            config.runaway = most and StopRunaway(most[rows], decoder_input_ids.shape[1])
            return StoppingCriteriaList([*given, config.runaway] if most else given)

        shared |= {"is_shortform": is_shortform, "attention_mask": None}
        if "encoder_outputs" not in kwargs:
            with torch.no_grad():
                encoded = self._prepare_text_encoder_decoder_kwargs_for_generation(
                    segment_input, {}, self.main_input_name, generation_config
                )
            kwargs = {**kwargs, **encoded}
        generation_config.rows_to_repeat = []  # `_need_fallback` appends one bool per row
        found = super().generate_with_fallback(
            segment_input=segment_input,
            decoder_input_ids=decoder_input_ids,
            cur_bsz=cur_bsz,
            batch_idx_map=batch_idx_map,
            temperatures=temperatures[:1],
            generation_config=generation_config,
            do_condition_on_prev_tokens=do_condition_on_prev_tokens,
            batch_size=cur_bsz,  # or a static cache would be padded, but EncoderOutput would not
            stopping_criteria=stopping(generation_config, slice(None)),
            kwargs=rows_of(kwargs, slice(None)),
            **shared,
        )
        sequences, outputs, skip, condition, kind = found
        repeated = [i for i, repeat in enumerate(generation_config.rows_to_repeat) if repeat]
        for i in repeated if len(temperatures) > 1 else []:
            row = slice(i, i + 1)
            own = copy.deepcopy(generation_config)
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(0)
                again = super().generate_with_fallback(
                    segment_input=segment_input[row],
                    decoder_input_ids=decoder_input_ids[row],
                    cur_bsz=1,
                    batch_idx_map=batch_idx_map[row],
                    temperatures=temperatures[1:],
                    generation_config=own,
                    do_condition_on_prev_tokens=do_condition_on_prev_tokens[row],
                    batch_size=1,
                    stopping_criteria=stopping(own, row),
                    kwargs=rows_of(kwargs, row),
                    **shared,
                )
            (sequences[i],), (outputs[i],), (skip[i],), (condition[i],), _ = again
            failed = own.rows_to_repeat[-1] and len(sequences[i]) > 0
            if failed and own.logprob_threshold is not None:
                tried = outputs[i]["scores"], sequences[i], temperatures[-1]
                skip[i] |= bool(self._retrieve_avg_logprobs(*tried) < own.logprob_threshold)
        for output in outputs:
            if isinstance(output, dict) and "logprobs" in output:
                # Match the indices of `generate`'s segments, which count the prompt.
                output["logprobs"] = F.pad(output["logprobs"], (decoder_input_ids.shape[1], 0))
        if not is_shortform:
            # `generate` keeps outputs until it ends. The scores of an hour would take gigabytes.
            outputs = [lean(output) for output in outputs]
        return sequences, outputs, skip, condition, kind

    def _need_fallback(
        self,
        seek_sequence: torch.Tensor,
        seek_outputs: Any,
        index: int,
        logits_processor: Any,
        generation_config: Any,
        vocab_size: int,
        temperature: float | None,
    ) -> tuple[bool, bool]:
        threshold = generation_config.no_speech_threshold
        if threshold is not None:
            detection = no_speech_detection(logits_processor)
            # Whisper's method indexes the probabilities of all beams by row: keep one per row.
            beams = len(detection.no_speech_prob) // len(seek_outputs)
            detection._no_speech_prob = detection.no_speech_prob[::beams]
        stopped = None
        if runaway := getattr(generation_config, "runaway", None):
            spoken = seek_sequence[seek_sequence != generation_config.eos_token_id]
            if stopped := runaway.stopped_at(index, spoken):
                # The rest is padding up to the length of the batch's longest row.
                seek_sequence = seek_sequence[:stopped]
        repeat, skip = super()._need_fallback(
            seek_sequence,
            seek_outputs,
            index,
            logits_processor,
            generation_config,
            vocab_size,
            temperature,
        )
        output = seek_outputs[index]
        if isinstance(output, dict) and output.get("scores"):
            output["logprobs"] = token_logprobs(output["scores"], seek_sequence, temperature)
        if threshold is not None and detection.no_speech_prob[index] > threshold and not skip:
            # On silence and music a model says "Thank you" with a confidence above Whisper's
            # threshold. On speech between them it is more confident still.
            scores = seek_outputs[index]["scores"]
            logprob = self._retrieve_avg_logprobs(scores, seek_sequence, temperature)
            skip = bool(logprob < generation_config.logprob_threshold / 2)
        repeat = (repeat or stopped is not None) and not skip
        generation_config.rows_to_repeat.append(repeat)
        return repeat, skip


def token_logprobs(
    scores: Sequence[torch.Tensor], tokens: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """Returns the log probabilities (length,) of generated tokens (length,), with the sampling
    temperature undone."""
    scaled = torch.stack(list(scores[: len(tokens)])).float() * (temperature or 1.0)
    chosen = tokens[: len(scaled)].to(scaled.device)
    return scaled.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]


def no_speech_detection(logits_processor: Any) -> Any:
    """Finds the no-speech detection among the logits processors."""
    return next(p for p in logits_processor if isinstance(p, WhisperNoSpeechDetection))


def rows_of(kwargs: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Selects rows of the arguments that `generate` passes on to the model."""
    selected = dict(kwargs)
    if "encoder_outputs" in kwargs:
        selected["encoder_outputs"] = select_rows(kwargs["encoder_outputs"], rows)
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


def pad(features: torch.Tensor, frames: int, value: float) -> torch.Tensor:
    """Pads features (n_mels, t) with `value` to at least `frames` frames."""
    return F.pad(features, (0, max(0, frames - features.shape[-1])), value=value)


def lean(output: Any) -> Any:
    """Keeps only the parts of a segment's output, a tensor or a mapping, that `generate` still
    needs."""
    if isinstance(output, torch.Tensor):
        return output
    kept = ("sequences", "token_timestamps", "logprobs")
    return {key: output[key] for key in kept if key in output}
