"""Whisper's `generate` for models that take audio of any length, in batches.

Whisper hears every segment of a recording padded to 30 s, so its `generate` hands no mask along
with the segments that it cuts. Here padding is marked in the features themselves, and so goes
wherever they go. What a recording gives does not depend on the batch it is in.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration as Whisper
else:
    Whisper = object

# The log energy of nothing at all, which no audio has: the features' floor is finite.
PADDING = -torch.inf
FRAMES_PER_SECOND = 100


def marked_frames(features: torch.Tensor) -> torch.Tensor | None:
    """The mask (B, frames), 1 at valid frames, of features (B, n_mels, frames) in which padding is
    marked; None where none is."""
    padding = features[:, 0] == PADDING
    return (~padding).long() if padding.any() else None


class EchoGeneration(Whisper):
    """What `EchoForConditionalGeneration` changes of Whisper's `generate`."""

    @property
    def least_frames(self) -> int:
        """How many frames the model hears at least: silence follows what is shorter."""
        return round((self.config.pad_to_seconds or 0) * FRAMES_PER_SECOND)

    def generate(
        self,
        input_features: torch.Tensor | None = None,
        *args: Any,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As Whisper's, with an `attention_mask` (B, frames) over the features that holds, except
        that a model whose training audio was padded with silence hears that much of it."""
        if input_features is not None and attention_mask is not None:
            heard = attention_mask.sum(-1).clamp(min=self.least_frames)
            longest = int(heard.max())
            input_features, attention_mask = (
                input_features[..., :longest],
                attention_mask[:, :longest],
            )
            frames = torch.arange(input_features.shape[-1], device=heard.device)
            padding = frames >= heard[:, None]
            input_features = input_features.masked_fill(padding[:, None], PADDING)
        return super().generate(input_features, *args, attention_mask=attention_mask, **kwargs)

    def _retrieve_max_frames_and_seek(
        self,
        batch_size: int,
        attention_mask: torch.Tensor | None,
        total_input_frames: int,
        is_shortform: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Whisper's takes each short recording to be as long as the longest of its batch.
        if attention_mask is None:
            return super()._retrieve_max_frames_and_seek(
                batch_size, attention_mask, total_input_frames, is_shortform
            )
        frames = attention_mask.sum(-1).cpu().clamp(min=self.least_frames)
        return frames.clamp(max=total_input_frames), torch.zeros_like(frames)

    def _get_input_segment(  # type: ignore[override]
        self,
        input_features: torch.Tensor | None,
        seek: torch.Tensor,
        seek_num_frames: torch.Tensor,
        num_segment_frames: int,
        cur_bsz: int,
        batch_idx_map: list[int],
    ) -> torch.Tensor | None:
        # Whisper's pads every segment to 30 s.
        if input_features is None:
            return None
        segments = [
            features[:, seek[i] : seek[i] + seek_num_frames[i]]
            for features, i in zip(input_features, batch_idx_map, strict=True)
        ]
        segments = [pad(segment, self.least_frames, 0.0) for segment in segments]
        longest = max(segment.shape[-1] for segment in segments)
        return torch.stack([pad(segment, longest, PADDING) for segment in segments])

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
        """As Whisper's, but from the second temperature on a row at a time, and with the same
        draws every time. Whisper's takes rows of a batch for each other then, and goes on without
        beams in all that follows.

        `attention_mask` is left out: it is not over the segments, in which padding is marked.
        """
        shared |= {"is_shortform": is_shortform, "attention_mask": None}
        generation_config.rows_to_repeat = []  # `_need_fallback` says for which rows
        found = super().generate_with_fallback(
            segment_input=segment_input,
            decoder_input_ids=decoder_input_ids,
            cur_bsz=cur_bsz,
            batch_idx_map=batch_idx_map,
            temperatures=temperatures[:1],
            generation_config=generation_config,
            do_condition_on_prev_tokens=do_condition_on_prev_tokens,
            batch_size=batch_size,
            kwargs=kwargs,
            **shared,
        )
        rows = [i for i, repeat in enumerate(generation_config.rows_to_repeat) if repeat]
        for i in rows if len(temperatures) > 1 else []:
            row = slice(i, i + 1)
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(0)
                again = super().generate_with_fallback(
                    segment_input=segment_input[row],
                    decoder_input_ids=decoder_input_ids[row],
                    cur_bsz=1,
                    batch_idx_map=batch_idx_map[row],
                    temperatures=temperatures[1:],
                    generation_config=copy.deepcopy(generation_config),
                    do_condition_on_prev_tokens=do_condition_on_prev_tokens[row],
                    batch_size=1,
                    kwargs={
                        key: value[row] if key == "decoder_attention_mask" else value
                        for key, value in kwargs.items()
                    },
                    **shared,
                )
            for rows_found, row_found in zip(found[:4], again[:4], strict=True):
                rows_found[i] = row_found[0]
        sequences, outputs, skip, condition, kind = found
        if not is_shortform:
            # `generate` keeps these to its end: the scores of an hour would take gigabytes.
            outputs = [lean(output) for output in outputs]
        return sequences, outputs, skip, condition, kind

    def _need_fallback(
        self,
        seek_sequence: torch.Tensor,
        seek_outputs: Any,
        index: int,
        logits_processor: Any,
        generation_config: Any,
        *args: Any,
    ) -> tuple[bool, bool]:
        repeat, skip = super()._need_fallback(
            seek_sequence, seek_outputs, index, logits_processor, generation_config, *args
        )
        generation_config.rows_to_repeat.append(repeat)
        return repeat, skip


def pad(features: torch.Tensor, frames: int, value: float) -> torch.Tensor:
    """Features (n_mels, t) with at least so many frames."""
    return F.pad(features, (0, max(0, frames - features.shape[-1])), value=value)


def lean(output: Any) -> Any:
    """What `generate` still needs of a segment's output, which is a tensor or a mapping."""
    if isinstance(output, torch.Tensor):
        return output
    return {key: output[key] for key in ("sequences", "token_timestamps") if key in output}
