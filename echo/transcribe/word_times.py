"""When the words of a transcript were said, as a CTC head hears them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from echo.checkpoints.load import LoadedModel
from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches
from echo.data.utterance import Utterance
from echo.evaluate.decoding import encode, times_of
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE, Limits
from echo.transcribe.subtitles import at, place_words
from echo.transcribe.transcript import Segment, Transcript, Word

MARGIN = 0.5  # seconds around segments, whose times are rough


def with_word_times(
    loaded: LoadedModel, recordings: Sequence[torch.Tensor], transcripts: Sequence[Transcript]
) -> list[Transcript]:
    """Times the words of transcripts by aligning them with what the model's CTC head hears.

    Args:
        recordings: (samples,) each, at 16 kHz.

    Returns:
        The transcripts with other times of their words. Where they cannot be aligned, since too
        many were heard in too short a time or the head has no letter of them, words lie in
        proportion to their characters.
    """
    most = Limits.of(loaded.model.config).max_frames / FRAMES_PER_SECOND
    found = [list(transcript.segments) for transcript in transcripts]
    pieces = []
    places: dict[str, tuple[int, range, float]] = {}  # recording, segments, start
    for i, samples in enumerate(recordings):
        for group in groups(found[i], most):
            start, end = heard_around(found[i], group, most)
            piece = samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            audio = AudioArray(piece.numpy(), SAMPLE_RATE, "")
            pieces.append(Utterance(f"{i}-{start}", audio, "", len(piece) / SAMPLE_RATE))
            places[pieces[-1].id] = i, group, start
    reader = ExampleReader.of(loaded.model, loaded.tokenizer, labelled=False)
    for batch in evaluation_batches(pieces, reader, DecodeSettings().max_batch_seconds):
        here = [places[utterance.id] for utterance in batch.utterances]
        words = [[word for n in group for word in spaced(found[i][n])] for i, group, _ in here]
        all_times = times_of(loaded, batch, encode(loaded.model, batch), words)
        for (i, group, offset), times in zip(here, all_times, strict=True):
            if times is None:
                found[i][group.start : group.stop] = [spread(found[i][n]) for n in group]
                continue
            left = iter(times)
            for n in group:
                words_there = zip(found[i][n].words or (), left, strict=False)
                most = transcripts[i].duration  # within the last frame
                timed = tuple(
                    replace(word, start=min(offset + start, most), end=min(offset + end, most))
                    for word, (start, end) in words_there
                )
                found[i][n] = replace(found[i][n], words=timed)
    return [
        replace(transcript, segments=tuple(segments))
        for transcript, segments in zip(transcripts, found, strict=True)
    ]


def spread(segment: Segment) -> Segment:
    """Returns a segment whose words lie in proportion to their characters."""
    whole = (0, len(segment.text)), Word(segment.start, segment.end, segment.text)
    words = [
        replace(word, start=at(whole, first), end=at(whole, last))
        for (first, last), word in (place_words(segment) if segment.words else ())
    ]
    return replace(segment, words=tuple(words))


def groups(segments: Sequence[Segment], most: float) -> Iterator[range]:
    """Yields the numbers of segments that are aligned together, within `most` seconds."""
    first = 0
    for n in range(1, len(segments) + 1):
        if n == len(segments) or segments[n].end + 2 * MARGIN - segments[first].start > most:
            yield range(first, n)
            first = n


def heard_around(segments: Sequence[Segment], group: range, most: float) -> tuple[float, float]:
    """Returns from where to where a group is heard, in seconds: up to half of the way to the
    segments beside it."""
    first, last = segments[group[0]], segments[group[-1]]
    before = segments[group[0] - 1].end if group[0] else -math.inf
    after = next((segment.start for segment in segments[group[-1] + 1 :]), math.inf)
    start = max(0.0, first.start - min(MARGIN, max(0.0, first.start - before) / 2))
    return start, min(last.end + min(MARGIN, max(0.0, after - last.end) / 2), start + most)


def spaced(segment: Segment) -> Iterator[str]:
    """Yields the words of a segment with the spaces before them, which not every language has."""
    rest = f" {segment.text}"
    for word in segment.words or ():
        end = max(0, rest.find(word.text)) + len(word.text)
        yield rest[:end]
        rest = rest[end:]
