"""When each word of a text is said in a window of a recording, and how probable it is.

An `Emissions` listens to a window once, and aligns as many texts with it as are asked for. Where
the model has a CTC head, that hears the text; otherwise the decoder is given the text, and the
heads of its cross-attention that follow the speech tell where it is.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from transformers.models.whisper.generation_whisper import _median_filter

from echo.checkpoints.load import LoadedModel
from echo.data.features import log_mel
from echo.data.tokenizer import text_ids
from echo.evaluate.ctc_alignment import SPACE, best_path
from echo.evaluate.normaliser import Normaliser
from echo.model.generation import alignment_heads
from echo.model.geometry import ENCODER_FRAME_SECONDS, Limits, encoder_frames, feature_frames
from echo.model.hooks import CallRecorder
from echo.model.model import EchoForConditionalGeneration, EncoderOutput

MEDIAN_WIDTH = 7  # encoder frames, as in Whisper's own word times
# Scores on the scale of attention: of hearing no word in a pause, or while there is a voice, and of
# speech without a text.
IN_PAUSE, IN_VOICE = 8.0, -3.0
ANYTHING_ATTENDED = 0.5
ANYTHING_HEARD = -1.0  # the same, as a log probability of CTC


class Said(NamedTuple):
    """A word in a window."""

    start: float  # seconds from the window's beginning
    end: float
    logprob: float  # the sum over its tokens
    tokens: int


# Aligns words, as they are spelled, with the window that was listened to; ANYTHING among them is
# speech without a text. None where there are too many tokens for the window or the model.
AlignWords = Callable[[Sequence[str]], list[Said] | None]
ANYTHING = ""


class Emissions(Protocol):
    least_score: float  # of right text, the log probability of a token, as the mean over a sentence

    def listen(self, samples: torch.Tensor) -> AlignWords:
        """Takes a window (samples,) at 16 kHz, no longer than the model's input."""


def find_emissions(
    loaded: LoadedModel,
    normaliser: Normaliser,
    voiced: Callable[[torch.Tensor], torch.Tensor],
    source: str,
) -> Emissions:
    """Returns what a model can align with; `voiced` is as `echo.data.voice.voiced`. ConfigError,
    which begins with `source`, if it is nothing."""
    if loaded.model.config.ctc:
        return CTC(loaded, normaliser)
    heads = alignment_heads(loaded.model, f"{source}: cannot align texts")
    return CrossAttention(loaded, normaliser, heads, voiced)


class CTC:
    """A model's CTC head."""

    least_score = -3.0

    def __init__(self, loaded: LoadedModel, normaliser: Normaliser) -> None:
        self.loaded, self.normaliser = loaded, normaliser
        self.tokenizer = loaded.ctc_tokenizer
        ids = self.tokenizer.get_vocab()
        self.spaces = torch.tensor([i for token, i in ids.items() if not token.strip(SPACE)])

    @torch.inference_mode()
    def listen(self, samples: torch.Tensor) -> AlignWords:
        encoded, frames = encode(self.loaded.model, samples)
        logits = self.loaded.model.ctc_logits(encoded)
        log_probs = logits[0, :frames].float().log_softmax(-1).cpu()
        anything = log_probs.shape[1]
        scores = F.pad(log_probs, (0, 1), value=ANYTHING_HEARD)
        space = "" if self.normaliser.by_letters else " "

        def align(words: Sequence[str]) -> list[Said] | None:
            spelled = [text_ids(self.tokenizer, space + word) if word else [] for word in words]
            ids = [token for own in spelled for token in own]
            owners = [i for i, own in enumerate(spelled) for _ in own]
            columns, owners = with_anything(words, ids, owners, anything)
            path = best_path(scores, torch.tensor(columns), self.tokenizer.pad_token_id)
            if path is None:
                return None
            heard, places, at = path
            sums = torch.zeros(len(columns)).index_add(0, places, at)
            # The space before a word may be heard anywhere in a pause.
            in_word = ~torch.isin(torch.tensor(columns), self.spaces)[places]
            return by_word(words, owners, heard[in_word], places[in_word], sums / places.bincount())

        return align


class CrossAttention:
    """A Whisper's decoder, which is given the text."""

    least_score = -4.5

    def __init__(
        self,
        loaded: LoadedModel,
        normaliser: Normaliser,
        heads: Sequence[Sequence[int]],
        voiced: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.loaded, self.normaliser, self.voiced = loaded, normaliser, voiced
        self.heads: dict[int, list[int]] = defaultdict(list)
        for layer, head in heads:
            self.heads[layer].append(head)

    @torch.inference_mode()
    def listen(self, samples: torch.Tensor) -> AlignWords:
        encoded, frames = encode(self.loaded.model, samples)
        pauses = pause_scores(self.voiced(samples), frames)

        @torch.inference_mode()
        def align(words: Sequence[str]) -> list[Said] | None:
            ids, owners = tokenise(self.loaded.tokenizer, words, self.normaliser.by_letters)
            read = self.read(encoded, ids)
            if read is None:
                return None
            logprobs, attention = read
            anything = torch.full((frames,), ANYTHING_ATTENDED)
            scores = torch.stack([*attention[:, :frames], pauses, anything], dim=1)
            end, pause = len(ids), len(ids) + 1
            columns, owners = with_anything(words, range(end), owners, len(ids) + 2)
            path = best_path(scores, torch.tensor([*columns, end]), blank=pause)
            if path is None:
                return None
            heard, places, _ = path
            by_column = torch.cat([logprobs, torch.zeros(3)])
            return by_word(words, owners, heard, places, by_column[torch.tensor(columns)])

        return align

    def read(
        self, encoded: EncoderOutput, ids: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns the log probabilities (N,) of tokens, and how much more than the others each of
        them and the end attends to each frame (N + 1, T). None if the decoder cannot take them."""
        model, prompt = self.loaded.model, self.loaded.tokenizer.prefix_tokens
        if not ids or len(prompt) + len(ids) >= model.config.max_target_positions:
            return None
        given = torch.tensor([[*prompt, *ids]], device=model.device)
        layers = {layer: model.model.decoder.layers[layer].encoder_attn for layer in self.heads}
        with CallRecorder(layers, weights_of, training_only=False) as calls:
            output = model(encoder_outputs=encoded, decoder_input_ids=given, use_cache=False)
        # The last token of the prompt predicts the first of the text, and its last one the end.
        before = len(prompt) - 1
        logprobs = output.logits[0, before:-1].float().log_softmax(-1)
        heads = [calls.kept[layer][0, own] for layer, own in self.heads.items()]
        weights = torch.cat(heads)[:, before:].float()
        std, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
        attention = _median_filter((weights - mean) / std.clamp(min=1e-9), MEDIAN_WIDTH).mean(0)
        return logprobs.gather(1, given[0, before + 1 :, None])[:, 0].cpu(), attention.cpu()


def pause_scores(voice: torch.Tensor, frames: int) -> torch.Tensor:
    """Returns how likely no word is said in each encoder frame (frames,), on the scale of
    attention, by where there is a voice."""
    # Windows of loudness are 50 ms long: a frame of 20 ms lies in the middle of these two.
    around = 2 * torch.arange(frames)[:, None] - torch.tensor([1, 2])
    return torch.where(voice[around.clamp(0, len(voice) - 1)].any(1), IN_VOICE, IN_PAUSE)


def with_anything(
    words: Sequence[str], columns: Sequence[int], owners: Sequence[int], anything: int
) -> tuple[list[int], list[int]]:
    """Returns the columns of tokens, and the numbers of their words, with those of speech without a
    text among them."""
    own = [(word, column) for word, column in zip(owners, columns, strict=True)]
    own += [(i, anything) for i, word in enumerate(words) if word == ANYTHING]
    own.sort(key=lambda each: each[0])
    return [column for _, column in own], [word for word, _ in own]


def weights_of(block: Any, arguments: dict[str, Any], _: Any) -> torch.Tensor:
    return block.weights(**arguments)


def encode(model: EchoForConditionalGeneration, samples: torch.Tensor) -> tuple[EncoderOutput, int]:
    """Returns the encoder's output for (samples,), and how many of its frames are of them."""
    limits = Limits.of(model.config)
    padded = F.pad(samples, (0, limits.padded(len(samples)) - len(samples)))
    features = log_mel(padded, limits.n_mels)[None].to(model.device, model.dtype)
    encoded = cast(EncoderOutput, model.encode(features, None))
    assert encoded.last_hidden_state is not None
    own = encoder_frames(feature_frames(len(samples)))
    return encoded, min(own, encoded.last_hidden_state.shape[1])


def tokenise(tokenizer: Any, words: Sequence[str], by_letters: bool) -> tuple[list[int], list[int]]:
    """Returns the tokens of a text, and the number of the word that each ends in."""
    space = "" if by_letters else " "
    parts = [space + word if word else "" for word in words]
    ends = torch.tensor([len(part) for part in parts]).cumsum(0)
    found = tokenizer("".join(parts), add_special_tokens=False, return_offsets_mapping=True)
    lasts = torch.tensor([last for _, last in found.offset_mapping], dtype=torch.long)
    return found.input_ids, torch.searchsorted(ends, lasts).tolist()


def by_word(
    words: Sequence[str],
    owners: Sequence[int],
    heard: torch.Tensor,
    places: torch.Tensor,
    logprobs: torch.Tensor,
) -> list[Said]:
    """Returns when each word is said.

    Args:
        owners: of each token, the number of its word.
        heard: (spoken frames,), the frames in which a token is heard.
        places: (spoken frames,), the token's place among the tokens.
        logprobs: (tokens,).
    """
    frames: dict[int, list[int]] = defaultdict(list)
    for at, place in zip(heard.tolist(), places.tolist(), strict=True):
        if place < len(owners):
            frames[owners[place]].append(at)
    sums, numbers = [0.0] * len(words), Counter(owners)
    for owner, logprob in zip(owners, logprobs.tolist(), strict=True):
        sums[owner] += logprob
    said: list[Said] = []
    for i, word in enumerate(words):
        last = said[-1].end if said else 0.0  # a word without tokens is where that before it ends
        own = frames.get(i)
        start = own[0] * ENCODER_FRAME_SECONDS if own else last
        end = (own[-1] + 1) * ENCODER_FRAME_SECONDS if own else last
        said.append(Said(start, end, sums[i], numbers[i] if word else 0))
    return said
