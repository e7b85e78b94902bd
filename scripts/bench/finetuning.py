"""Fine-tuning: utterances per second of Echo's trainer, beside `transformers`' usual recipe.

Echo's side is what `echo-asr train configs/finetune.yaml` runs, on the checkpoint made Echo's and
on the plain Whisper. The recipe is Seq2SeqTrainer with WhisperFeatureExtractor's 30 s, as in
`transformers`' own examples, at Echo's mean batch size. Same recordings, precision and threads, one
process, in turn; seconds include the decoding of audio, features and collation.

    python scripts/bench/finetuning.py --model ../shared/models/whisper-tiny.en \
        --data ../shared/data/speechocean762/train.jsonl --threads 1
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch.utils.data import Dataset
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from turns import speed

from echo.checkpoints.convert import convert
from echo.config import RunConfig, load_config
from echo.data.build import build_corpus
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.train.loop import Trainer
from echo.train.start import starting_point

PLAIN = ["attention.encoder=plain", "attention.decoder=plain"]


class Recordings(Dataset):
    """What the recipe's `prepare_dataset` makes of each recording."""

    def __init__(self, utterances: Sequence[Utterance], processor: WhisperProcessor) -> None:
        self.utterances = utterances
        self.processor = processor

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        utterance = self.utterances[index]
        audio: Any = utterance.audio
        samples, rate = soundfile.read(audio.path, dtype="float32")
        features = self.processor.feature_extractor(samples, sampling_rate=rate)
        return {
            "input_features": features.input_features[0],
            "labels": self.processor.tokenizer(utterance.text).input_ids,
        }


class Collator:
    """The recipe's DataCollatorSpeechSeq2SeqWithPadding."""

    def __init__(self, processor: WhisperProcessor, start: int) -> None:
        self.processor = processor
        self.start = start

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.feature_extractor.pad(
            [{"input_features": e["input_features"]} for e in examples], return_tensors="pt"
        )
        padded = self.processor.tokenizer.pad(
            [{"input_ids": e["labels"]} for e in examples], return_tensors="pt"
        )
        labels = padded["input_ids"].masked_fill(padded.attention_mask.ne(1), -100)
        if (labels[:, 0] == self.start).all():
            labels = labels[:, 1:]
        batch["labels"] = labels
        return batch


def echo_steps(config: RunConfig) -> Iterator[int]:
    """Takes a step of Echo's trainer each time it is asked, and tells of how many utterances."""
    corpus = build_corpus(config.data, config.seed)
    model, tokenizer, _ = starting_point(config, corpus)
    trainer = Trainer(config, Path("unused"), corpus, model, tokenizer)
    trainer.state.model.train()
    for taken in trainer.batches():
        trainer.step(taken.own)
        yield taken.utterances


def recipe_steps(
    model: str, data: str, batch_size: int, folder: str, workers: int = 0, bf16: bool = False
) -> Iterator[int]:
    """The same of `transformers`' trainer."""
    processor = WhisperProcessor.from_pretrained(model)
    whisper = WhisperForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    trainer: Any = Seq2SeqTrainer(
        whisper,
        Seq2SeqTrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            learning_rate=3e-5,
            warmup_steps=50,
            max_steps=1000,
            report_to=[],
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Recordings(read_source(data), processor),
        data_collator=Collator(processor, whisper.config.decoder_start_token_id),
    )
    trainer.create_optimizer_and_scheduler(1000)
    whisper = trainer.accelerator.prepare(whisper)  # as `train` does, for its precision
    trainer.current_gradient_accumulation_steps = 1  # as `train` sets it before it steps
    while True:
        for batch in trainer.get_train_dataloader():
            trainer.training_step(whisper, batch)
            torch.nn.utils.clip_grad_norm_(whisper.parameters(), trainer.args.max_grad_norm)
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
            whisper.zero_grad()
            yield len(batch["labels"])


def batch_size(contenders: dict[str, Iterator[int]]) -> int:
    """Takes the first two steps of each, which warm up; returns their mean batch size."""
    sizes = [next(steps) for steps in contenders.values() for _ in range(2)]
    return max(1, round(statistics.mean(sizes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a Whisper checkpoint's folder or hub id")
    parser.add_argument("--data", required=True, help="a manifest to train on")
    parser.add_argument("--config", default="configs/finetune.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of Echo's in a round")
    parser.add_argument("--recipe-steps", type=int, default=1, help="of the recipe's in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"data.train={arguments.data}",
            f"data.eval={arguments.data}",
            "data.workers=0",
            "train.precision=fp32",
        ]
        contenders: dict[str, Iterator[int]] = {}
        for name, attention in (("echo", []), ("whisper, in echo", PLAIN)):
            init = f"{folder}/{name}"
            convert(arguments.model, init, attention)
            contenders[name] = echo_steps(
                load_config(arguments.config, [*overrides, f"init={init}"])
            )
        size = batch_size(contenders)
        recipe = recipe_steps(arguments.model, arguments.data, size, folder)
        next(recipe)
        print(f"the recipe's batches are of {size} utterances")
        ratios: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(arguments.rounds):
            measured = {name: speed(steps, arguments.steps) for name, steps in contenders.items()}
            theirs = speed(recipe, arguments.recipe_steps)
            for name, ours in measured.items():
                ratios[name].append(ours / theirs)
            line = ", ".join(f"{name} {ours:.2f}" for name, ours in measured.items())
            print(f"round {turn + 1}, utterances/s: {line}, transformers {theirs:.2f}", flush=True)
    for name, values in ratios.items():
        print(f"{name:18} {statistics.median(values):.1f} times transformers' recipe")


if __name__ == "__main__":
    main()
