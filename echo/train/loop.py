"""The training loop."""

import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from echo.config import RunConfig
from echo.data.batching import EpochBatches
from echo.data.loading import IGNORED, Batch, ExampleReader, Limits, sample, training_loader
from echo.data.utterance import Corpus
from echo.errors import DataError
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.metrics import word_errors
from echo.model import EchoForConditionalGeneration
from echo.train.build import ctc_weight, special_ids
from echo.train.checkpoint import (
    CheckpointFolder,
    Progress,
    random_state,
    restore_random_state,
)
from echo.train.lora import add_adapters, merged, trained_state
from echo.train.loss import joint_loss
from echo.train.optimiser import build_optimiser, build_schedule, freeze
from echo.train.recorder import Recorder
from echo.train.watch import AttentionWatch

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one model in one run folder."""

    def __init__(
        self,
        config: RunConfig,
        run: Path,
        corpus: Corpus,
        model: EchoForConditionalGeneration,
        tokenizer: Any,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.accelerator = Accelerator(mixed_precision=mixed_precision(config))
        self.watch = AttentionWatch(model)
        # A loaded weight lies where it lay in its file, and products of numbers that are aligned
        # otherwise round otherwise: a resumed run would drift from the unbroken one.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        # Whisper's sinusoids are fixed, which loading a checkpoint forgets.
        model.model.encoder.embed_positions.requires_grad_(False)
        if config.lora:
            add_adapters(model, config.lora)
        freeze(model, config.train.freeze)
        self.optimiser = build_optimiser(model, config.train)
        self.schedule = build_schedule(self.optimiser, config.train)
        self.model, self.optimiser = self.accelerator.prepare(model, self.optimiser)
        self.reader = ExampleReader(tokenizer, Limits.of(model.config))
        self.special_ids = special_ids(tokenizer).to(self.accelerator.device)
        self.ctc_weight = ctc_weight(config)
        self.checkpoints = CheckpointFolder(run)
        self.run = run
        self.progress = Progress()
        self.wer: float | None = None
        self.recent: list[dict[str, Any]] = []  # steps since the last line of metrics

    def resume(self, state: dict[str, Any], progress: Progress) -> None:
        """Goes on from a checkpoint's state; the model's weights are loaded already."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.config.lora:
            model = self.accelerator.unwrap_model(self.model)
            model.load_state_dict(state["trained"], strict=False)
        restore_random_state(state["random"])
        self.progress = progress

    def train(self) -> Progress:
        """Trains to `max_steps`; writes metrics, checkpoints, and shows a progress bar."""
        settings = self.config.train
        main = self.accelerator.is_main_process
        recorder = Recorder(self.run, self.progress.step) if main else None
        batches = self.batches()
        self.model.train()
        bar = tqdm(
            total=settings.max_steps,
            initial=self.progress.step,
            unit="step",
            desc=self.run.name,
            disable=not main,
        )
        while self.progress.step < settings.max_steps and not self.stale:
            started = time.perf_counter()
            micro_batches = list(islice(batches, settings.accumulation))
            waited = time.perf_counter() - started
            values = self.step(micro_batches)
            self.progress.seconds += time.perf_counter() - started
            self.recent.append({**values, "waited": waited})
            step = self.progress.step
            final = step == settings.max_steps
            bar.update()
            if step % settings.log_every == 0 or final:
                self.log(recorder, bar)
            best = False
            if step % settings.eval_every == 0 or final:
                best = self.evaluate(recorder)
            if best or final or self.stale or step % settings.checkpoint_every == 0:
                self.save(best)
        if self.stale:
            logger.info("stopped: %d evaluations without a better WER", self.progress.stale)
        bar.close()
        if recorder:
            recorder.close()
        return self.progress

    @property
    def stale(self) -> bool:
        """Whether the WER has not got better for long enough to stop."""
        patience = self.config.train.patience
        return patience is not None and self.progress.stale >= patience

    def batches(self) -> Iterator[Batch]:
        """Batches from the run's position on, which moves as they are taken."""
        data = self.config.data
        sampler = EpochBatches(
            self.corpus,
            self.config.seed,
            data.max_batch_seconds,
            data.max_batch_size,
            data.augment.speed,
            self.progress.position,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        loader = training_loader(self.corpus, sampler, self.reader, data, self.config.seed)
        fruitful = self.progress.position.epoch
        for batch, position in zip(loader, sampler.positions(), strict=False):
            self.progress.position = position
            skipped = batch.skipped if isinstance(batch, Batch) else batch
            if skipped and data.on_error == "raise":
                raise skipped[0]
            for problem in skipped:
                logger.warning("skipped: %s", problem)
            self.progress.skipped += len(skipped)
            if isinstance(batch, Batch):
                fruitful = position.epoch
                yield batch.to(self.accelerator.device)
            elif position.epoch > fruitful + 1:
                raise DataError(f"no recording of epoch {position.epoch - 1} could be read")

    def step(self, batches: list[Batch]) -> dict[str, torch.Tensor]:
        """One optimiser step over the accumulated batches, normalised by all of their tokens.

        Returns what is logged, as tensors, since reading them would wait for the device.
        """
        tokens = self.accelerator.reduce(
            torch.stack([(b.labels != IGNORED).sum() for b in batches]).sum(), "sum"
        )
        losses = torch.zeros(3, device=self.accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses += self.backward(batch, tokens)
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.config.train.max_grad_norm
        )
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        progress = self.progress
        progress.step += 1
        progress.utterances += sum(len(b.utterances) for b in batches)
        total, decoder, ctc = losses / tokens
        return {"loss": total, "decoder_loss": decoder, "ctc_loss": ctc, "grad_norm": norm}

    def backward(self, batch: Batch, tokens: torch.Tensor) -> torch.Tensor:
        """Adds one batch's gradients; returns its summed losses: total, decoder's, CTC's."""
        output = self.model(
            batch.input_features,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        )
        loss = joint_loss(
            output,
            batch.labels,
            batch.attention_mask,
            self.ctc_weight,
            self.config.loss.label_smoothing,
            self.special_ids,
            blank=self.tokenizer.pad_token_id,
        )
        objective = loss.total
        if self.config.loss.span_penalty:
            mean_span = torch.stack([span.mean() for span in self.watch.spans.values()]).mean()
            share = (batch.labels != IGNORED).sum()
            objective = objective + self.config.loss.span_penalty * mean_span * share
        # Several processes average their gradients, where the sum is wanted.
        self.accelerator.backward(objective * (self.accelerator.num_processes / tokens))
        return torch.stack([loss.total.detach(), loss.decoder, loss.ctc])

    def log(self, recorder: Recorder | None, bar: tqdm) -> None:
        """Writes the means over the steps since the last line."""
        steps, self.recent = self.recent, []
        if recorder is None:
            return
        values: dict[str, Any] = {
            key: torch.stack([torch.as_tensor(s[key]) for s in steps]).float().mean().item()
            for key in steps[0]
        }
        progress = self.progress
        values["learning_rate"] = self.schedule.get_last_lr()[0]
        values["seconds"] = progress.seconds
        values["utterances"] = progress.utterances
        values["utterances_per_second"] = progress.utterances / progress.seconds
        values |= self.watch.measure()
        recorder.record("train", progress.step, values)
        bar.set_postfix(
            {
                "loss": f"{values['loss']:.3f}",
                "WER": "-" if self.wer is None else f"{100 * self.wer:.1f}%",
                "utt/s": f"{values['utterances_per_second']:.0f}",
            }
        )

    def evaluate(self, recorder: Recorder | None) -> bool:
        """Measures WER on a fixed part of the evaluation set; returns whether it is the best."""
        better = False
        if recorder is not None:
            config = self.config
            transcripts = transcribe_set(
                self.accelerator.unwrap_model(self.model),
                self.tokenizer,
                sample(self.corpus.eval_utterances(), config.train.eval_utterances),
                config.decode,
                config.data.on_error,
            )
            references = [u.text for u in transcripts.utterances]
            self.wer = word_errors(references, transcripts.texts).rate
            recorder.record(
                "eval",
                self.progress.step,
                {"wer": self.wer, "rtfx": transcripts.rtfx, "seconds": self.progress.seconds},
            )
            better = self.progress.best_wer is None or self.wer < self.progress.best_wer
            if better:
                self.progress.best_wer = self.wer
            self.progress.stale = 0 if better else self.progress.stale + 1
        self.progress.stale = broadcast_object_list([self.progress.stale])[0]
        return better

    def save(self, best: bool) -> None:
        """Writes a checkpoint, from the main process alone."""
        if self.accelerator.is_main_process:
            state = {
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "random": random_state(),
            }
            model = self.accelerator.unwrap_model(self.model)
            if self.config.lora:
                state["trained"] = trained_state(model)
                model = merged(model)
            self.checkpoints.save(model, self.tokenizer, state, self.progress, best)
        self.accelerator.wait_for_everyone()


def mixed_precision(config: RunConfig) -> str:
    """accelerate's name for the run's precision."""
    if config.train.precision == "auto":
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if bf16 else "no"
    return {"fp32": "no", "bf16": "bf16"}[config.train.precision]
