"""Echo: `transformers`' Whisper with other self-attention blocks.

Generation, caches, timestamps and long-form decoding are Whisper's. This module adds the attention
of each layer, an encoder that accepts any length up to its number of positions, padding masks (in
cross-attention too), and an optional CTC head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.models.whisper.modeling_whisper import (
    WhisperAttention,
    WhisperDecoder,
    WhisperEncoder,
    WhisperEncoderLayer,
    WhisperForConditionalGeneration,
    WhisperModel,
    WhisperPreTrainedModel,
    sinusoids,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from echo.attention.cache import LayerCache
from echo.attention.forms import FORMS
from echo.attention.global_branch import AttentionMap, attention_weights, split_heads
from echo.attention.settings import AttentionSettings
from echo.model.config import EchoConfig
from echo.model.generation import EchoGeneration
from echo.model.geometry import ENCODER_STRIDE, encoder_mask
from echo.model.pipeline import register_pipeline

DECODER_ARGUMENTS = tuple(signature(WhisperDecoder.forward).parameters)[1:]
# transformers calls a cache `cache` from 5.24 on, and `past_key_values` before.
CACHE = "cache" if "cache" in DECODER_ARGUMENTS else "past_key_values"


class EchoPreTrainedModel(WhisperPreTrainedModel):
    config: EchoConfig
    config_class = EchoConfig
    # Padding masks are tensors in a form that these kernels do not accept.
    _supports_flash_attn = False
    _supports_flex_attn = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # transformers calls this for our classes only if the module itself has parameters. It does
        # not call it for EchoEncoder, which only has submodules.
        if initial_weights := getattr(module, "initial_weights", None):
            for name, weight in initial_weights().items():
                init.copy_(module.get_parameter(name), weight)


class SinusoidPositions(nn.Embedding):
    """Whisper's fixed encoder positions."""

    def __init__(self, positions: int, dims: int) -> None:
        super().__init__(positions, dims)
        self.load_state_dict(self.initial_weights())
        self.requires_grad_(False)

    def initial_weights(self) -> dict[str, torch.Tensor]:
        return {"weight": sinusoids(self.num_embeddings, self.embedding_dim)}


@dataclass
class EncoderOutput(BaseModelOutput):
    """`attention_mask` (B, frames) is the mask over the encoded features. None if all are valid.
    `hidden_states` are the layers' outputs where a CTC head hears their mean."""

    attention_mask: torch.Tensor | None = None


class EchoEncoder(EchoPreTrainedModel, WhisperEncoder):
    """Whisper's encoder for features of any length up to `max_source_positions`."""

    _can_record_outputs: ClassVar = {  # type: ignore[misc]
        "hidden_states": WhisperEncoderLayer,
        "attentions": [WhisperAttention, OutputRecorder(AttentionMap)],
    }

    def __init__(self, config: EchoConfig) -> None:
        super().__init__(config)
        self.embed_positions = SinusoidPositions(config.max_source_positions, config.d_model)
        for layer, settings in zip(self.layers, config.encoder_attention(), strict=True):
            swap_attention(layer, settings, config, causal=False)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> EncoderOutput:
        """Encodes log-mel features.

        Args:
            input_features: (B, n_mels, frames), 10 ms per frame.
            attention_mask: (B, frames), 1 at valid frames and 0 at padding, which must come last.
                None if there is no padding. Padding does not change the output at valid frames.

        Returns:
            `last_hidden_state` (B, ceil(frames / 2), D).

        Raises:
            ValueError: there are more frames than positions.
        """
        frames = input_features.shape[-1]
        if frames > ENCODER_STRIDE * self.max_source_positions:
            raise ValueError(
                f"{frames} frames of features are more than the encoder's "
                f"{ENCODER_STRIDE * self.max_source_positions}"
            )
        # Both convolutions look one frame past the end of an utterance. Zero that frame, as if the
        # utterance were alone in the batch.
        padding = None if attention_mask is None else attention_mask[:, None] == 0
        x = input_features if padding is None else input_features.masked_fill(padding, 0)
        x = F.gelu(self.conv1(x))
        x = x if padding is None else x.masked_fill(padding, 0)
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        if torch.compiler.is_exporting():  # which cannot order the strides of transposed frames
            x = x.contiguous()
        if self.config.encoder_positions != "none":
            x = x + self.positions(x)
        x = F.dropout(x, p=self.dropout, training=self.training)

        mask = None if attention_mask is None else key_mask(attention_mask, x.dtype)
        kwargs |= recording(self.config, kwargs)
        states = []
        for layer in self.layers:
            if not (self.training and self.layerdrop > 0 and torch.rand([]) < self.layerdrop):
                x = layer(x, mask, **kwargs)
            states.append(x)
        last = self.layer_norm(x)
        return EncoderOutput(
            last_hidden_state=last,
            hidden_states=(*states[:-1], last) if self.config.ctc_layers == "mean" else None,
            attention_mask=attention_mask,
        )

    def positions(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the positions (T, D) of frames (B, T, D)."""
        return self.embed_positions(torch.arange(x.shape[1], device=x.device))


class EchoCrossAttention(WhisperAttention):
    """Cross-attention that masks padded frames and can add positions (T, D) to the frames.
    Whisper's decoder passes neither to its layers, so both are passed as keyword arguments."""

    def forward(  # type: ignore[override, unused-ignore]
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_mask: torch.Tensor | None = None,
        encoder_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        key_value_states = positioned(key_value_states, encoder_positions)
        return super().forward(
            hidden_states, key_value_states, attention_mask=encoder_mask, **kwargs
        )

    def weights(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor,
        encoder_mask: torch.Tensor | None = None,
        encoder_positions: torch.Tensor | None = None,
        heads: int | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Returns the attention weights (B, heads, tokens, frames) for the arguments of `forward`:
        those of the first `heads` heads, or of all."""
        key_value_states = positioned(key_value_states, encoder_positions)
        query = split_heads(self.q_proj(hidden_states), self.num_heads)[:, :heads]
        key = split_heads(self.k_proj(key_value_states), self.num_heads)[:, :heads]
        return attention_weights(query * self.scaling, key, encoder_mask)


class EchoDecoder(EchoPreTrainedModel, WhisperDecoder):
    """Whisper's decoder with causal focused attention and masked cross-attention."""

    _can_record_outputs: ClassVar = {  # type: ignore[misc]
        **WhisperDecoder._can_record_outputs,
        "attentions": [
            WhisperDecoder._can_record_outputs["attentions"],
            OutputRecorder(AttentionMap),
        ],
    }

    def __init__(self, config: EchoConfig) -> None:
        super().__init__(config)
        attention = config.decoder_attention()
        self.is_focused = not all(settings.is_plain for settings in attention)
        for index, settings in enumerate(attention):
            layer = self.layers[index]
            swap_attention(layer, settings, config, causal=True, layer_idx=index)
            layer.encoder_attn = EchoCrossAttention(
                config.d_model,
                config.decoder_attention_heads,
                dropout=config.attention_dropout,
                is_decoder=True,
                layer_idx=index,
                config=config,
            )
        self.post_init()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        kwargs |= dict(zip(DECODER_ARGUMENTS, args, strict=False))
        for name in {"cache", "past_key_values"} & kwargs.keys():
            kwargs[CACHE] = kwargs.pop(name)
        if kwargs.get("use_cache") is None:
            kwargs["use_cache"] = self.config.use_cache
        if kwargs["use_cache"] and kwargs.get(CACHE) is None:
            kwargs[CACHE] = EncoderDecoderCache(DynamicCache(), DynamicCache())
        if kwargs.get(CACHE) is not None and self.is_focused:
            make_room(kwargs[CACHE], self.config.decoder_layers * LayerCache.layers_per_block)
        return super().forward(**kwargs, **recording(self.config, kwargs))


class EchoModel(EchoPreTrainedModel, WhisperModel):
    encoder: EchoEncoder

    def __init__(self, config: EchoConfig) -> None:
        WhisperPreTrainedModel.__init__(self, config)
        self.encoder = EchoEncoder(config)
        self.decoder = EchoDecoder(config)
        self.post_init()

    def forward(
        self,
        input_features: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Like WhisperModel's, but respects an `attention_mask` (B, frames) over the features."""
        if encoder_outputs is None:
            input_features = self._mask_input_features(
                input_features, attention_mask=attention_mask
            )
            encoder_outputs = self.encoder(input_features, attention_mask=attention_mask, **kwargs)
        if attention_mask is None and isinstance(encoder_outputs, EncoderOutput):
            attention_mask = encoder_outputs.attention_mask
        if attention_mask is not None:
            kwargs["encoder_mask"] = key_mask(attention_mask, encoder_outputs[0].dtype)
        if self.config.cross_positions:
            kwargs["encoder_positions"] = self.encoder.positions(encoder_outputs[0])
        return super().forward(
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            **kwargs,
        )


@dataclass
class EchoOutput(Seq2SeqLMOutput):
    """`ctc_logits` is (B, encoder frames, tokens of the head) if the model has a CTC head and ran
    its encoder in this call, otherwise None. `scores` is what `score` returned; `logits` is None
    then."""

    ctc_logits: torch.Tensor | None = None
    scores: Any = None


class LayerMean(nn.Module):
    """A learned mean of the outputs of an encoder's layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Outputs (B, T, D) of at least the layers, the last of them last -> (B, T, D)."""
        # Normalised, because they grow from layer to layer.
        heard = [F.layer_norm(x, x.shape[-1:]) for x in states[-len(self.weights) :]]
        return torch.einsum("l,lbtd->btd", self.weights.softmax(0), torch.stack(heard))


class EchoForConditionalGeneration(EchoPreTrainedModel, EchoGeneration):
    def __init__(self, config: EchoConfig) -> None:
        WhisperPreTrainedModel.__init__(self, config)
        self.model = EchoModel(config)
        self.proj_out = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.max_target_positions = config.max_target_positions
        if config.ctc:
            self.ctc_head = ctc_head(config)
        self.post_init()

    def forward(
        self,
        input_features: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        *args: Any,
        score: Callable[[Seq2SeqModelOutput, nn.Linear], Any] | None = None,
        encoder_only: bool = False,
        **kwargs: Any,
    ) -> EchoOutput:
        """Like Whisper's, but respects an `attention_mask` (B, frames) over the features and adds
        CTC logits. With labels, `loss` is the decoder's loss only. `score`, if given, is called
        with the hidden states and the output projection in place of computing the logits. With
        `encoder_only` there are CTC logits alone."""
        given = (
            input_features,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
        )
        if encoder_only:
            features = self.model._mask_input_features(input_features, attention_mask)
            encoded = self.model.encoder(features, attention_mask=attention_mask)
            output = EchoOutput(
                encoder_last_hidden_state=encoded.last_hidden_state,
                encoder_hidden_states=encoded.hidden_states,
            )
        elif score is None:
            output = super().forward(*given, *args, **kwargs)
        else:
            states = self.model(*given, **kwargs)
            output = EchoOutput(
                encoder_last_hidden_state=states.encoder_last_hidden_state,
                encoder_hidden_states=states.encoder_hidden_states,
                scores=score(states, self.proj_out),
            )
        if self.config.ctc and encoder_outputs is None:
            encoded = EncoderOutput(
                last_hidden_state=output.encoder_last_hidden_state,
                hidden_states=output.encoder_hidden_states,
            )
            output = EchoOutput(**output, ctc_logits=self.ctc_logits(encoded))
        return output

    def ctc_logits(self, encoded: EncoderOutput) -> torch.Tensor:
        """Returns the CTC head's logits (B, T, tokens) of what the encoder returned."""
        mean = self.config.ctc_layers == "mean"
        return self.ctc_head(encoded.hidden_states if mean else encoded.last_hidden_state)

    # `generate` and the Trainer look for the names and order of Whisper's arguments.
    forward.__signature__ = signature(WhisperForConditionalGeneration.forward)  # type: ignore[attr-defined]


def ctc_head(config: EchoConfig) -> nn.Module:
    """Returns a head for what `config.ctc_layers` names."""
    linear = nn.Linear(config.d_model, config.ctc_size)
    if config.ctc_layers == "mean":
        return nn.Sequential(LayerMean(config.encoder_layers), linear)
    return linear


def swap_attention(
    layer: Any,
    settings: AttentionSettings,
    config: EchoConfig,
    causal: bool,
    layer_idx: int = 0,
) -> None:
    """Replaces the self-attention of a Whisper encoder or decoder layer, according to settings."""
    if settings.is_plain:
        return
    heads = config.decoder_attention_heads if causal else config.encoder_attention_heads
    block = FORMS[settings.form](settings, config.d_model, heads, causal, config.attention_dropout)
    block.layer_idx, block.layers = layer_idx, config.decoder_layers
    layer.self_attn = block
    if block.normalises_input:
        layer.self_attn_layer_norm = nn.Identity()


def recording(config: EchoConfig, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that make focused blocks record their attention maps. They do so
    whenever Whisper's blocks do, so that there is one map per layer."""
    asked = kwargs.get("output_attentions", config.output_attentions)
    return {"record_map": True} if asked and config._attn_implementation == "eager" else {}


def positioned(encoded: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Adds positions (T, D), if given, to the encoder's output (B, T, D)."""
    return encoded if positions is None else encoded + positions


def key_mask(attention_mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Converts a mask (B, frames) of 1 and 0 to values (B, 1, 1, ceil(frames / 2)) that are added
    to attention scores."""
    padding = encoder_mask(attention_mask)[:, None, None] == 0
    return torch.zeros(padding.shape, dtype=dtype, device=padding.device).masked_fill(
        padding, torch.finfo(dtype).min
    )


def make_room(cache: Any, layers: int) -> None:
    """Adds layers to a decoder's self-attention cache, up to `layers`, for the state that focused
    blocks keep besides keys and values.

    Raises:
        ValueError: the cache is not a dynamic one.
    """
    cache = getattr(cache, "self_attention_cache", cache)
    assert isinstance(cache, Cache)
    if not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
        raise ValueError(
            "a decoder with focused attention needs a dynamic cache, not a "
            f"{type(cache).__name__}: leave out cache_implementation"
        )
    while len(cache.layers) < layers:
        cache.layers.append(DynamicLayer())


AutoConfig.register("echo", EchoConfig)
AutoModelForSpeechSeq2Seq.register(EchoConfig, EchoForConditionalGeneration)
register_pipeline()
