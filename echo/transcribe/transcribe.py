"""Recordings of any length, transcribed in batches.

A model that knows timestamps goes through each recording window by window, as Whisper does. One
that does not, as all that are trained from scratch, hears a recording whole where it can take it,
and else in pieces cut at its quietest moments; a segment is then such a piece.
"""

import logging
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers.models.whisper.tokenization_whisper import LANGUAGES, _combine_tokens_into_words

from echo.checkpoints.load import LoadedModel, to_device
from echo.config import DecodeSettings
from echo.data.audio import Audio, AudioArray, AudioFile
from echo.data.batching import bucket
from echo.data.examples import ExampleReader
from echo.data.features import log_mel
from echo.data.loading import evaluation_batches
from echo.data.tokenizer import prompt_ids, special_ids, timestamp_ids
from echo.data.utterance import Utterance
from echo.data.vad import Vad, find_voice
from echo.data.voice import split_at_quiet, trim
from echo.evaluate.decoding import decode_with_confidence
from echo.model.generation import alignment_heads
from echo.model.geometry import FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE, Limits, feature_frames
from echo.model.language import (
    known_languages,
    language_code,
    not_multilingual,
    spoken_language,
)
from echo.support.errors import ConfigError, DataError
from echo.support.progress import progress_bar
from echo.support.settings import Positive, check
from echo.support.text import distinct
from echo.transcribe.formats import write_transcript
from echo.transcribe.int8 import int8_copy
from echo.transcribe.recordings import Channel, heard_channels
from echo.transcribe.subtitles import Layout
from echo.transcribe.transcript import Decoding, Segment, Transcript, Word
from echo.transcribe.word_times import with_word_times

logger = logging.getLogger(__name__)

# Whisper's rules for what to decode again, and what counts as silence. The compression ratio is
# that of token ids, as `transformers` measures it.
FALLBACK = {
    "temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "compression_ratio_threshold": 1.35,
    "logprob_threshold": -1.0,
    "no_speech_threshold": 0.6,
}
MAX_BATCH_SECONDS = 2 * 3600.0  # of recordings held in memory, padded to their longest
AROUND = SAMPLE_RATE  # samples around a segment to look for its voice in: its times are rough


@dataclass(frozen=True)
class TranscribeSettings:
    """How recordings are transcribed."""

    # Number of beams; 1 decodes greedily.
    beams: Positive = 1
    # Language of the recordings, "de" or "german"; with None, a multilingual model detects it.
    language: str | None = None
    # Whether a multilingual model transcribes or translates; None is what it was trained for.
    task: Literal["transcribe", "translate"] | None = None
    # Whether words get times.
    words: bool = False
    # Number of recordings transcribed at a time.
    batch_size: Positive = 8
    # Text that the model takes for what was said before each window.
    prompt: str | None = None
    # Words that are likely to be said, put before the prompt of each window.
    hotwords: str | None = None
    # Whether linear layers are computed in 8-bit integers, on a CPU.
    int8: bool = False
    # What tells speech from other sounds: how loud it is, or Silero's detector, of the extra vad.
    vad: Vad = "energy"


DEFAULTS = TranscribeSettings()


def transcribe_into(
    folder: Path,
    loaded: LoadedModel,
    paths: Sequence[Path],
    formats: Sequence[str],
    settings: TranscribeSettings,
    progress: bool = False,
    layout: Layout | None = None,
    channel: Channel | None = None,
) -> None:
    """Transcribes recordings, or the channels that are asked for, into files, each written as soon
    as it is known. Those that cannot be read are logged, and named by a DataError at the end."""
    heard = [each for path in paths for each in heard_channels(path, channel)]
    # Numbered where a name is taken, regardless of case.
    names = distinct(name for _, name in heard)
    for (audio, asked), name in zip(heard, names, strict=True):
        if name != asked:
            logger.warning("%s: is written as %s, because the name is taken", audio, name)
    left_out = 0
    recordings = [audio for audio, _ in heard]
    for index, result in transcribe_files(loaded, recordings, settings, progress):
        if isinstance(result, Transcript):
            if not result.segments:
                logger.warning("%s: no speech is found in it", recordings[index])
            write_transcript(result, folder, names[index], formats, layout)
        else:
            logger.error("%s", result)
            left_out += 1
    if left_out:
        what = "recordings" if channel is None else "channels"
        raise DataError(f"{left_out} of {len(heard)} {what} could not be transcribed")


def transcribe_recordings(
    loaded: LoadedModel,
    paths: Sequence[str | Path],
    settings: TranscribeSettings = DEFAULTS,
) -> list[Transcript]:
    """Transcribes recordings of any length, on a GPU where there is one.

    Returns:
        Their transcripts, in the order of `paths`.

    Raises:
        ConfigError: the model cannot do what is asked of it.
        DataError: a recording cannot be read; see `transcribe_files` to go on with the others.
    """
    found: dict[int, Transcript] = {}
    recordings = [AudioFile(Path(path)) for path in paths]
    for index, result in transcribe_files(loaded, recordings, settings):
        if isinstance(result, DataError):
            raise result
        found[index] = result
    return [found[index] for index in range(len(paths))]


def transcribe_files(
    loaded: LoadedModel,
    recordings: Sequence[Audio],
    settings: TranscribeSettings,
    progress: bool = False,
) -> Iterator[tuple[int, Transcript | DataError]]:
    """Transcribes recordings, longest first, in batches of like length. Yields the index of each
    among them, and its transcript, or why it has none."""
    transcriber = Transcriber(loaded, settings)
    readable: list[int] = []
    durations: list[float] = []
    for index, audio in enumerate(recordings):
        try:
            durations.append(audio.seconds())
            readable.append(index)
        except DataError as error:
            yield index, error
    batches = bucket(durations, MAX_BATCH_SECONDS, settings.batch_size)
    total = round(sum(durations))
    with progress_bar(total=total, desc="transcribing", unit="s", shown=progress) as bar:
        done = 0.0

        def advance(seconds: float) -> None:
            bar.update(round(done + seconds) - bar.n)

        for batch in reversed(batches):
            samples: dict[int, torch.Tensor] = {}
            for index in (readable[i] for i in reversed(batch)):
                try:
                    samples[index] = recordings[index].load()
                except DataError as error:
                    yield index, error
            transcripts = transcriber.transcribe(list(samples.values()), advance)
            done += sum(durations[i] for i in batch)
            advance(0)
            yield from zip(samples, transcripts, strict=True)


class Transcriber:
    """A model, and how it transcribes. Raises ConfigError where it cannot do what the settings ask
    for."""

    def __init__(self, loaded: LoadedModel, settings: TranscribeSettings) -> None:
        check(settings, "settings")
        self.loaded = loaded
        self.tokenizer = loaded.tokenizer
        self.settings = settings
        self.limits = Limits.of(loaded.model.config)
        self.voiced = find_voice(settings.vad)
        known = loaded.model.generation_config
        self.special = special_ids(self.tokenizer)
        self.has_timestamps = knows_timestamps(loaded)
        self.languages = known_languages(known)
        self.language = settings.language and language_code(known, settings.language, "the model")
        self.spoken = self.language or spoken_language(known)
        if settings.task and not self.languages:
            raise ConfigError(f"the model cannot {settings.task}: {not_multilingual(known)}")
        if settings.words:
            self.check_words()
        self.prompt = self.prompt_ids()
        to_device(loaded.model)
        if settings.int8:
            self.loaded = replace(loaded, model=int8_copy(loaded.model))

    def check_words(self) -> None:
        """Raises ConfigError where the model cannot time words: it has neither a CTC head nor
        timestamps and heads of cross-attention that follow the audio."""
        if self.loaded.model.config.ctc:
            return
        refused = "the model cannot time words"
        alignment_heads(self.loaded.model, refused)
        if not self.has_timestamps:
            raise ConfigError(f"{refused}: it has no CTC head, and produces no timestamps")

    def prompt_ids(self) -> list[int]:
        """The prompt and hotwords before every window, up to half of what the decoder takes."""
        prompt, hotwords = self.settings.prompt or "", self.settings.hotwords or ""
        if not (prompt.strip() or hotwords.strip()):
            return []
        if not self.has_timestamps or "<|startofprev|>" not in self.tokenizer.get_vocab():
            raise ConfigError("only Whispers take a prompt and hotwords: leave them out")
        ids = prompt_ids(self.tokenizer, prompt, sys.maxsize, hotwords)
        if special := [i for i in ids[1:] if i in self.special]:
            token = self.tokenizer.convert_ids_to_tokens(special[0])
            raise ConfigError(f"the prompt and hotwords cannot hold the special token {token}")
        most = self.limits.max_tokens // 2
        if len(ids) > most:
            logger.warning(
                f"the prompt and hotwords are cut from {len(ids) - 1} to {most - 1} tokens, the "
                "most that the model takes"
            )
        return prompt_ids(self.tokenizer, prompt, most, hotwords)

    def transcribe(
        self, recordings: Sequence[torch.Tensor], progress: Callable[[float], None]
    ) -> list[Transcript]:
        """Transcribes recordings (samples,) at 16 kHz together. `progress` is told how many seconds
        of them all are done."""
        voiced = [i for i, samples in enumerate(recordings) if self.voiced(samples).any()]
        decode = self.decode_windows if self.has_timestamps else self.decode_pieces
        heard = [recordings[i] for i in voiced]
        transcripts = decode(heard, progress)
        if self.settings.words and self.loaded.model.config.ctc:
            transcripts = with_word_times(self.loaded, heard, transcripts)
        found = dict(zip(voiced, transcripts, strict=True))
        return [
            found.get(i) or Transcript(len(samples) / SAMPLE_RATE, (), self.spoken)
            for i, samples in enumerate(recordings)
        ]

    def decode_pieces(
        self, recordings: Sequence[torch.Tensor], progress: Callable[[float], None]
    ) -> list[Transcript]:
        pieces = []
        for i, samples in enumerate(recordings):
            for begin, end in split_at_quiet(samples, self.limits.max_frames * HOP_LENGTH):
                piece = samples[begin:end]
                if self.voiced(piece).any():
                    audio = AudioArray(piece.numpy(), SAMPLE_RATE, "")
                    seconds = len(piece) / SAMPLE_RATE
                    place = {"recording": i, "start": begin / SAMPLE_RATE}
                    pieces.append(Utterance(f"{i}-{begin}", audio, "", seconds, extra=place))
        settings = DecodeSettings(beams=self.settings.beams)
        reader = ExampleReader.of(self.loaded.model, self.loaded.tokenizer, labelled=False)
        found: list[list[Segment]] = [[] for _ in recordings]
        done = 0.0
        for batch in evaluation_batches(pieces, reader, settings.max_batch_seconds):
            heard = decode_with_confidence(self.loaded, batch, settings)
            for utterance, (text, confidence) in zip(batch.utterances, heard, strict=True):
                start = utterance.extra["start"]
                if is_text(text):
                    end = start + utterance.duration
                    words = tuple(Word(start, end, word) for word in text.split())
                    segment = Segment(
                        start, end, text, words if self.settings.words else None, confidence
                    )
                    found[utterance.extra["recording"]].append(segment)
                done += utterance.duration
            progress(done)
        in_order = (tuple(sorted(segments, key=lambda s: s.start)) for segments in found)
        return [
            Transcript(len(samples) / SAMPLE_RATE, segments, self.spoken)
            for samples, segments in zip(recordings, in_order, strict=True)
        ]

    @torch.inference_mode()
    def decode_windows(
        self, recordings: Sequence[torch.Tensor], progress: Callable[[float], None]
    ) -> list[Transcript]:
        if not recordings:
            return []
        model = self.loaded.model
        features = [
            log_mel(F.pad(x, (0, self.limits.padded(len(x)) - len(x))), self.limits.n_mels)
            for x in recordings
        ]
        lengths = torch.tensor([feature_frames(len(samples)) for samples in recordings])
        batch = pad_sequence([x.T for x in features], batch_first=True).transpose(1, 2)
        # Without conditioning on what the window before said, it comes before every window.
        prompt = torch.tensor(self.prompt, device=model.device) if self.prompt else None
        options = {"language": self.language, "task": self.settings.task, "prompt_ids": prompt}
        mask = (torch.arange(batch.shape[2]) < lengths[:, None]).long()
        output = model.generate_by(
            batch.to(model.device),
            attention_mask=mask.to(model.device),
            return_timestamps=True,
            return_token_timestamps=self.settings.words and not model.config.ctc,
            return_segments=True,
            max_length=self.limits.max_tokens,
            num_beams=self.settings.beams,
            monitor_progress=lambda at: progress(float(at.min(1).values.sum()) / FRAMES_PER_SECOND),
            **{key: value for key, value in options.items() if value is not None},
            **FALLBACK,
        )
        return [
            self.transcript(samples, segments)
            for samples, segments in zip(recordings, output["segments"], strict=True)
        ]

    def transcript(self, samples: torch.Tensor, found: Sequence[dict[str, Any]]) -> Transcript:
        """The segments that `generate` found, without those that hold no words or voice, and with
        their times trimmed to the voice."""
        duration = len(samples) / SAMPLE_RATE
        voice = self.voiced(samples)
        language = self.spoken
        if found:
            language = self.heard_language(found[0]["result"]["sequences"]) or language
        segments = []
        spoken = 0.0  # seconds, up to the end of the last word
        for segment in found:
            start, end = (min(float(segment[key]), duration) for key in ("start", "end"))
            text = self.tokenizer.decode(segment["tokens"], skip_special_tokens=True)
            first, last = (round(second * SAMPLE_RATE) for second in (start, end))
            around = samples[max(0, first - AROUND) : last + AROUND]
            if not (start < end and is_text(text) and self.voiced(around).any()):
                continue
            words = None
            if self.settings.words:
                words = tuple(
                    replace(word, start=begin, end=finish)
                    for word in self.words(segment, spoken, duration, language)
                    for begin, finish in [trim(word.start, word.end, voice)]
                )
                spoken = words[-1].end
            is_spoken = ~torch.isin(segment["tokens"].cpu(), self.special)
            sure = confidence(token_logprobs(segment)[is_spoken].tolist())
            text = " ".join(text.split())
            decoding = self.decoding(segment["result"])
            segments.append(Segment(*trim(start, end, voice), text, words, sure, decoding))
        return Transcript(duration, tuple(segments), language)

    def decoding(self, result: dict[str, Any]) -> Decoding:
        """Returns how a window was decoded, from what `generate` found in it."""
        text = self.tokenizer.decode(result["sequences"], skip_special_tokens=True)
        content = text.strip().encode()
        return Decoding(
            result["temperature"],
            result["avg_logprob"],
            len(content) / len(zlib.compress(content)),
            result["no_speech_prob"],
        )

    def heard_language(self, ids: torch.Tensor) -> str | None:
        """The language that a sequence's prompt names."""
        codes = {i: token.strip("<|>") for token, i in self.languages.items()}
        return next((codes[i] for i in ids.tolist() if i in codes), None)

    def words(
        self, segment: dict[str, Any], earliest: float, latest: float, language: str | None
    ) -> tuple[Word, ...]:
        """The words of a segment, each from where the one before it ends; all for the whole segment
        where a CTC head is to time them."""
        ids = segment["tokens"].tolist()
        said = segment.get("token_timestamps", torch.full((len(ids),), float(segment["end"])))
        ends = said.clamp(earliest, latest).tolist()
        starts = [min(max(float(segment["start"]), earliest), ends[0]), *ends[:-1]]
        logprobs = token_logprobs(segment).tolist()
        spoken = [i for i, token in enumerate(ids) if token not in self.special]
        texts, _, places = _combine_tokens_into_words(
            self.tokenizer, [ids[i] for i in spoken], LANGUAGES.get(language or "en")
        )
        return tuple(
            Word(
                starts[spoken[place[0]]],
                ends[spoken[place[-1]]],
                word.strip(),
                confidence([logprobs[spoken[i]] for i in place]),
            )
            for word, place in zip(texts, places, strict=True)
            if word.strip()
        )


def knows_timestamps(loaded: LoadedModel) -> bool:
    """Whether a model can write every timestamp in the audio that it takes at once."""
    config, generation = loaded.model.config, loaded.model.generation_config
    if getattr(generation, "no_timestamps_token_id", None) is None:
        return False
    needed = timestamp_ids(loaded.tokenizer)[: config.max_source_positions + 1]
    never = set(generation.suppress_tokens or [])
    return needed[-1] < config.vocab_size and never.isdisjoint(needed)


def token_logprobs(segment: dict[str, Any]) -> torch.Tensor:
    """The log probabilities (length,) of the tokens of a segment that `generate` found."""
    start, end = segment["idxs"]
    return segment["result"]["logprobs"][start:end]


def confidence(logprobs: Sequence[float]) -> float:
    """The geometric mean of the probabilities of tokens."""
    return math.exp(sum(logprobs) / len(logprobs))


def is_text(text: str) -> bool:
    """Whether a text holds words: models write noise as dots, stars and notes."""
    return any(character.isalnum() for character in text)
