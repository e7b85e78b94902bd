"""RTFx of `echo-asr transcribe` beside `transformers`' pipeline, with the same weights and files.

The recordings are utterances of one speaker as they are, and joined to longer ones. In one process
and in turn, so that a noisy machine disturbs them alike: the pipeline, which takes a file at a
time; `transcribe` doing so too; and `transcribe` with its batches, also in int8. With
`--ctranslate2`, a folder that `echo-asr export MODEL FOLDER --to ctranslate2` has written,
faster-whisper too, greedily, in float32 and in int8.

    python scripts/bench/transcribe.py MODEL --data ../shared/data/librispeech/dev.jsonl
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from transformers import pipeline
from turns import Turns, header, line

from echo.checkpoints.load import load_model
from echo.data.audio import AudioFile, JoinedAudio
from echo.data.sound_file import header_duration
from echo.data.sources import read_source
from echo.data.tokenizer import load_tokenizer
from echo.data.utterance import Utterance
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.model.geometry import SAMPLE_RATE
from echo.transcribe.transcribe import TranscribeSettings, transcribe_files

PAUSE = 0.3  # seconds between joined utterances

Transcribe = Callable[[Sequence[Path]], list[str]]


def write_recordings(
    utterances: Sequence[Utterance], folder: Path, long: int, seconds: float, short: int
) -> dict[Path, str]:
    """Writes `long` recordings of so many seconds or a little more, and `short` single utterances.

    Returns:
        What is said in each.
    """
    rest = iter(utterances)
    said = {}
    for index in range(long + short):
        parts = [next(rest)]
        while index < long and sum(part.duration + PAUSE for part in parts) < seconds:
            parts.append(next(rest))
        joined = JoinedAudio(tuple(part.audio for part in parts), (PAUSE,) * len(parts))
        path = folder / f"{index:03}.wav"
        soundfile.write(path, joined.load().numpy(), SAMPLE_RATE)
        said[path] = " ".join(part.text for part in parts)
    return said


def faster_whisper(folder: str, precision: str, threads: int) -> Transcribe:
    from faster_whisper import WhisperModel

    model = WhisperModel(folder, "cpu", compute_type=precision, cpu_threads=threads)

    def transcribe(paths: Sequence[Path]) -> list[str]:
        texts = []
        for path in paths:
            segments, _ = model.transcribe(str(path), beam_size=1)
            texts.append("".join(segment.text for segment in segments))
        return texts

    return transcribe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a Whisper checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--long", type=int, default=8, help="joined recordings")
    parser.add_argument("--seconds", type=float, default=75.0, help="of a joined one, at least")
    parser.add_argument("--short", type=int, default=16, help="single utterances")
    parser.add_argument("--batch-size", type=int, default=TranscribeSettings.batch_size)
    parser.add_argument("--ctranslate2", help="the model for faster-whisper")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    utterances = read_source(arguments.data)
    loaded = load_model(arguments.model)
    recognise: Any = pipeline(
        "automatic-speech-recognition",
        arguments.model,
        dtype=torch.float32,
        device=0 if torch.cuda.is_available() else -1,
    )

    def by_pipeline(paths: Sequence[Path]) -> list[str]:
        return [
            recognise(
                {"raw": AudioFile(path).load().numpy(), "sampling_rate": SAMPLE_RATE},
                return_timestamps=True,
            )["text"]
            for path in paths
        ]

    def by_transcribe(paths: Sequence[Path], batch_size: int, int8: bool = False) -> list[str]:
        settings = TranscribeSettings(batch_size=batch_size, int8=int8)
        found: dict[int, Any] = dict(transcribe_files(loaded, [*map(AudioFile, paths)], settings))
        return [found[index].text for index in range(len(paths))]

    contenders: dict[str, Transcribe] = {
        "pipeline": by_pipeline,
        "one by one": lambda paths: by_transcribe(paths, 1),
        "batched": lambda paths: by_transcribe(paths, arguments.batch_size),
        "batched, int8": lambda paths: by_transcribe(paths, arguments.batch_size, int8=True),
    }
    if arguments.ctranslate2:
        for precision in ("float32", "int8"):
            contenders[f"faster-whisper {precision}"] = faster_whisper(
                arguments.ctranslate2, precision, arguments.threads
            )
    normalise = normaliser("en", load_tokenizer(arguments.model))
    with tempfile.TemporaryDirectory() as folder:
        said = write_recordings(
            utterances, Path(folder), arguments.long, arguments.seconds, arguments.short
        )
        sets = {
            "long": list(said)[: arguments.long],
            "short": list(said)[arguments.long :],
        }
        print(
            f"{arguments.long} long and {arguments.short} short recordings, "
            f"{arguments.threads} threads, medians of {arguments.rounds} rounds\n"
        )
        figures = ("RTFx", "of the pipeline's", "of one by one", "WER, normalised, %")
        print(header(("recordings", "how"), figures))
        for kind, paths in sets.items():
            if not paths:
                continue
            audio = sum(header_duration(path) for path in paths)
            turns = Turns()
            for _ in range(arguments.rounds):
                texts = turns.take({name: partial(own, paths) for name, own in contenders.items()})
            references = [normalise(said[path]) for path in paths]
            for name in contenders:
                times = (turns.ratio(other, name) for other in ("pipeline", "one by one"))
                wer = 100 * word_errors(references, [normalise(t) for t in texts[name]]).rate
                print(line(kind, name, audio / turns.median(name), *times, wer), flush=True)


if __name__ == "__main__":
    main()
