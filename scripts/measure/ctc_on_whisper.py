"""What a CTC head adds to a Whisper that is fine-tuned: word errors by each way to decode, loops,
words written where nobody speaks, and the times of words against those of cross-attention.

    echo-asr pilot --config configs/pilot_finetune.yaml init=WHISPER data.train=TRAIN \
        data.eval=OWN --seeds 1,2,3
    python scripts/measure/ctc_on_whisper.py --dev OWN --digits PATH_TO/fsdd RUNS/*/seed-*

Words are timed in digits said one by one and joined, so that it is known when each begins and ends.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from transformers import GenerationMixin, LogitsProcessorList
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from echo.checkpoints.load import LoadedModel, load_model
from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.corpora.fsdd import ConnectedDigits
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches, sample
from echo.data.sources import ReadOptions, read_source
from echo.data.tokenizer import decode_transcripts, text_ids
from echo.data.utterance import Utterance
from echo.evaluate.alignment import align
from echo.evaluate.decoding import encode, transcribe_set
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.model.generation import facts
from echo.model.geometry import SAMPLE_RATE
from echo.report.mistakes import is_loop
from echo.support.text import table
from echo.transcribe.transcribe import Transcriber, TranscribeSettings

# By the row's name, how a model is decoded; those after the first need the head.
DECODINGS: dict[str, dict[str, Any]] = {
    "decoder": {"ctc_weight": 0.0},
    "joint 0.1": {"ctc_weight": 0.1},
    "joint 0.3": {"ctc_weight": 0.3},
    "joint 0.5": {"ctc_weight": 0.5},
    "CTC alone": {"ctc_alone": True},
}
BEAMS = 5
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # of the head, where it puts the beams in order


def without_speech(count: int) -> list[Utterance]:
    """Silence, and white noise from -60 to -10 dB, of 2 to 12 seconds."""
    source = torch.Generator().manual_seed(0)
    clips = []
    for i in range(count):
        samples = torch.randn(round((2 + 10 * i / count) * SAMPLE_RATE), generator=source)
        level = 0.0 if i % 4 == 0 else 10 ** (-(10 + 50 * (i * 7 % count) / count) / 20)
        audio = AudioArray((level * samples).clamp(-1, 1).numpy(), SAMPLE_RATE, "")
        clips.append(Utterance(f"noise {i}", audio, "", len(samples) / SAMPLE_RATE))
    return clips


def errors(
    loaded: LoadedModel, speech: Sequence[Utterance], settings: DecodeSettings
) -> dict[str, Any]:
    found = evaluate_model(loaded, speech, settings)
    lines = align(found.references_normalised, found.hypotheses_normalised)
    quiet = transcribe_set(loaded, without_speech(40), settings)
    return {
        "wer": found.wer_normalised.rate,
        "loops": sum(map(is_loop, lines)),
        "words without speech": sum(len(text.split()) for text in quiet.texts),
        "rtfx": found.transcripts.rtfx,
    }


@torch.inference_mode()
def rescored(loaded: LoadedModel, speech: Sequence[Utterance]) -> dict[str, Any]:
    """Word errors of the best of BEAMS texts by the decoder's score of a token and, with each of
    WEIGHTS, by the head's too."""
    model, head = loaded.model, loaded.ctc_tokenizer
    told: Any = model.generation_config
    prompt = torch.tensor([[told.decoder_start_token_id, told.no_timestamps_token_id]])
    at_first = SuppressTokensAtBeginLogitsProcessor(told.begin_suppress_tokens, prompt.shape[1])
    suppressed = [SuppressTokensLogitsProcessor(told.suppress_tokens), at_first]
    reader = ExampleReader.of(model, loaded.tokenizer, labelled=False)
    chosen: dict[float, list[str]] = {weight: [] for weight in WEIGHTS}
    for row in speech:
        [batch] = evaluation_batches([row], reader, row.duration)
        encoded = encode(model, batch)
        found = GenerationMixin.generate(
            model,
            generation_config=facts(told),
            encoder_outputs=type(encoded)(**encoded),
            decoder_input_ids=prompt,
            logits_processor=LogitsProcessorList(suppressed),
            max_length=model.config.max_target_positions,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        heard = model.ctc_logits(encoded).log_softmax(-1)[0]
        texts = decode_transcripts(loaded.tokenizer, found.sequences)
        scores = [head_score(heard, text_ids(head, text), head.pad_token_id) for text in texts]
        tokens = (found.sequences != told.pad_token_id).sum(-1) - prompt.shape[1] + 1
        by_head = torch.tensor(scores) / tokens
        for weight, best in chosen.items():
            score = (1 - weight) * found.sequences_scores + weight * by_head
            best.append(texts[int(score.argmax())])
    normalise = normaliser("en", loaded.tokenizer)
    references = [normalise(row.text) for row in speech]
    return {
        f"weight {weight}": word_errors(references, [*map(normalise, best)]).rate
        for weight, best in chosen.items()
    }


def head_score(log_probs: torch.Tensor, ids: Sequence[int], blank: int) -> float:
    """The log probability of a text, by its tokens, in (frames, tokens)."""
    sizes = torch.tensor([len(log_probs)]), torch.tensor([len(ids)])
    lost = F.ctc_loss(log_probs[:, None], torch.tensor([ids]), *sizes, blank, reduction="sum")
    return -lost.item()


def known_times(utterance: Utterance) -> list[tuple[float, float]]:
    """When each digit of a row begins and ends, in seconds."""
    audio: Any = utterance.audio
    lengths = [each.duration for each in audio.parts]
    ends = accumulate(p + n for p, n in zip(audio.pauses, lengths, strict=True))
    return [(end - n, end) for end, n in zip(ends, lengths, strict=True)]


def word_times(loaded: LoadedModel, rows: Sequence[Utterance], by_head: bool) -> dict[str, Any]:
    """The median distance of the beginnings and ends of words in rows that are heard correctly, and
    how many seconds of audio are transcribed in a second."""
    config = loaded.model.config
    has, config.ctc = config.ctc, by_head
    recordings = [row.audio.fetch().load() for row in rows]
    started = time.perf_counter()
    settings = TranscribeSettings(words=True)
    found = Transcriber(loaded, settings).transcribe(recordings, lambda _: None)
    seconds = time.perf_counter() - started
    config.ctc = has
    off: list[tuple[float, float]] = []
    for row, transcript in zip(rows, found, strict=True):
        words = [*chain.from_iterable(s.words or () for s in transcript.segments)]
        if [word.text.strip(".,").lower() for word in words] == row.text.split():
            off += [
                (abs(word.start - start), abs(word.end - end))
                for word, (start, end) in zip(words, known_times(row), strict=True)
            ]
    return {
        "words": len(off),
        "start off by": median(start for start, _ in off) if off else None,
        "end off by": median(end for _, end in off) if off else None,
        "rtfx": sum(map(len, recordings)) / SAMPLE_RATE / seconds,
    }


def measures(
    loaded: LoadedModel, arguments: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yields the name of each row and what measures it."""
    options = ReadOptions(allow_outside=True)
    speech = sample(read_source(arguments.dev, options), arguments.utterances)
    digits = ConnectedDigits(Path(arguments.digits), 1, arguments.utterances, "dev")
    rows = digits.eval_utterances()[: arguments.utterances]
    has = loaded.model.config.ctc
    for name, told in DECODINGS.items():
        if has or name == "decoder":
            yield name, partial(errors, loaded, speech, DecodeSettings(**told))
    if has:
        yield f"best of {BEAMS}", partial(rescored, loaded, speech)
    for name, by_head in (("times by cross-attention", False), ("times by the head", True)):
        if has or not by_head:
            yield name, partial(word_times, loaded, rows, by_head)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    for name in ("--dev", "--digits"):
        parser.add_argument(name, required=True)
    parser.add_argument("--utterances", type=int, default=300, help="of each set")
    arguments = parser.parse_args()
    results = {}
    for run in arguments.runs:
        loaded = load_model(run, "last")
        for row, measure in measures(loaded, arguments):
            results[f"{run}, {row}"] = measure()
            print(f"{run}, {row}: {results[f'{run}, {row}']}", flush=True)
    columns = dict.fromkeys(chain.from_iterable(results.values()))
    rows = [
        [key, *(f"{found[c]:.4g}" if found.get(c) is not None else "" for c in columns)]
        for key, found in results.items()
    ]
    print(table(["model", *columns], rows, texts=1))


if __name__ == "__main__":
    main()
