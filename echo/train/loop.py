"""The training loop."""

import logging
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from tqdm import tqdm

from echo.attention.hybrid import HybridAttention
from echo.checkpoints.card import model_card
from echo.checkpoints.run import CheckpointFolder, Progress, random_state, restore_random_state
from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.loading import IGNORED, Batch, ExampleReader, sample
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.wer import word_errors
from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.language import told_language
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import EchoError, StoppedError
from echo.support.signals import StopRequest
from echo.train.alignment import AlignmentLoss
from echo.train.batches import StepBatches, step_batches
from echo.train.build import ctc_weight, special_ids
from echo.train.ema import WeightAverage
from echo.train.lora import add_adapters, merged, trained_state
from echo.train.loss import joint_loss
from echo.train.optimiser import build_optimiser, freeze
from echo.train.recorder import Recorder, read_metrics
from echo.train.schedule import build_schedule, share_done
from echo.train.sharding import check_strategy, spread_optimiser_state, whole, whole_model
from echo.train.watch import AttentionWatch, DataWatch

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one model in one run folder."""

    def __init__(
        self,
        config: RunConfig,
        run: Path,
        corpus: AnyCorpus,
        model: EchoForConditionalGeneration,
        tokenizer: Any,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.processes = Processes.started()
        self.ctc_weight = ctc_weight(config)
        self.accelerator = Accelerator(
            mixed_precision=mixed_precision(config),
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=has_unused(model))
            ],
        )
        self.watch = AttentionWatch(model)
        self.alignment = AlignmentLoss(model) if config.loss.alignment_weight else None
        self.data_watch = DataWatch()
        self.progress = Progress()
        # A loaded weight lies where it lay in its file, and products of numbers that are aligned
        # otherwise round otherwise: a resumed run would drift from the unbroken one.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        # Whisper's sinusoids are fixed, which loading a checkpoint forgets.
        model.model.encoder.embed_positions.requires_grad_(False)
        with self.processes.together():
            check_strategy(self.accelerator, config)
            if config.lora:
                add_adapters(model, config.lora)
            freeze(model, config.train.freeze)
            if model.config.ctc and self.ctc_weight == 0:
                freeze(model, ["ctc_head"])
            self.optimiser = build_optimiser(model, config.train)
            self.schedule = build_schedule(
                self.optimiser, config.train, lambda: self.progress.seconds
            )
        self.model, self.optimiser = self.accelerator.prepare(model, self.optimiser)
        decay = config.train.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.reader = ExampleReader(tokenizer, Limits.of(model.config))
        self.special_ids = special_ids(tokenizer).to(self.accelerator.device)
        self.checkpoints = CheckpointFolder(run, config.train.keep_best)
        self.run = run
        self.recent: list[dict[str, Any]] = []  # steps since the last line of metrics

    def resume(self, state: dict[str, Any], progress: Progress) -> None:
        """Goes on from a checkpoint's state; the model's weights are loaded already."""
        self.optimiser.load_state_dict(spread_optimiser_state(state["optimiser"], self.optimiser))
        self.schedule.load_state_dict(state["schedule"])
        if "trained" in state:
            model = self.accelerator.unwrap_model(self.model)
            model.load_state_dict(state["trained"], strict=False)
        if self.average:
            self.average.values = [v.to(self.accelerator.device) for v in state["average"]]
        self.recent = state["recent"]
        if len(state["random"]) == self.processes.world:
            restore_random_state(state["random"][self.processes.rank])
        else:
            self.processes.seed(self.config.seed, progress.step)
        self.progress = progress

    def train(self) -> Progress:
        """Trains to the end of the budget, `max_steps` or `max_seconds`.

        Raises:
            StoppedError: by a signal, after a checkpoint.
            EchoError: the numbers have gone wrong for good, or a checkpoint cannot be written.
        """
        with StopRequest() as request:
            for _ in self.steps(request, self.run.name):
                pass
        return self.progress

    def steps(self, request: StopRequest, title: str) -> Generator[None, None, None]:
        """Trains, and yields after each step, when all that is due after it is done: metrics,
        evaluations and checkpoints are written, and a progress bar of this title is shown.

        Raises:
            StoppedError: `request` was made, and the step finished and its checkpoint written.
            EchoError: the numbers have gone wrong for good, or a checkpoint cannot be written.
        """
        settings = self.config.train
        main = self.processes.is_main
        self.model.train()
        bar = tqdm(
            total=settings.max_steps,
            initial=self.progress.step,
            unit="step",
            desc=title,
            disable=not main,
        )
        with ExitStack() as stack:
            stack.callback(bar.close)
            recorder = stack.enter_context(Recorder(self.run, self.progress.step)) if main else None
            batches = self.batches()
            if self.evaluation_is_due:  # a signal arrived before it
                self.evaluate_and_save(recorder, request)
            while not self.finished:
                started = time.perf_counter()
                taken = next(batches)
                waited = time.perf_counter() - started
                self.progress.position = taken.position
                self.progress.utterances += taken.utterances
                self.progress.skipped += taken.skipped
                values = self.step(taken.own)
                seconds = time.perf_counter() - started
                if settings.max_seconds is not None:  # all processes must stop at the same step
                    seconds = max(self.processes.gather(seconds))
                self.progress.seconds += seconds
                self.data_watch.add(waited, seconds)
                if values:
                    self.recent.append(values)
                bar.update()
                if self.progress.step % settings.log_every == 0 or self.finished:
                    self.log(recorder, bar)
                self.evaluate_and_save(recorder, request)
                yield
        if self.stale:
            logger.info("stopped: %d evaluations without a better WER", self.progress.stale)

    @property
    def finished(self) -> bool:
        return self.budget_is_spent or self.stale

    @property
    def budget_is_spent(self) -> bool:
        return share_done(self.config.train, self.progress.step, self.progress.seconds) >= 1

    @property
    def evaluation_is_due(self) -> bool:
        step = self.progress.step
        due = step > 0 and (step % self.config.train.eval_every == 0 or self.budget_is_spent)
        return due and self.progress.wer_step != step

    @property
    def stale(self) -> bool:
        """Whether the WER has not got better for long enough to stop."""
        patience = self.config.train.patience
        return patience is not None and self.progress.stale >= patience

    def batches(self) -> Iterator[StepBatches]:
        """Those of one step after another, from the run's position on."""
        return step_batches(
            self.config,
            self.corpus,
            self.reader,
            self.progress.position,
            self.processes,
            self.accelerator.device,
        )

    def evaluate_and_save(self, recorder: Recorder | None, request: StopRequest) -> None:
        """Does what is due after a step.

        Raises:
            StoppedError: a signal asks for it.
        """
        stopping = self.processes.highest(request.number)
        good = self.evaluation_is_due and not stopping and self.evaluate(recorder)
        due = self.progress.step % self.config.train.checkpoint_every == 0
        if good or due or stopping or self.finished:
            self.save(recorder)
        if stopping:
            number = signal.Signals(stopping)
            raise StoppedError(
                f"{self.run}: stopped by {number.name} after step {self.progress.step}; go on with "
                f"'echo-asr resume {self.run}'",
                number,
            )

    def step(self, batches: list[Batch]) -> dict[str, torch.Tensor] | None:
        """One optimiser step over the accumulated batches, normalised by all of their tokens.

        Returns what is logged, as tensors, since reading them would wait for the device; None for
        a step that left the weights as they were, because its numbers went wrong or its batches
        did not fit into memory, even cut in halves.

        Raises:
            EchoError: too many such steps in a row.
        """
        found = self.gradients(batches) or self.gradients([h for b in batches for h in b.halves()])
        trouble = "its batches do not fit into memory"
        if found and not torch.isfinite(torch.stack([*found.values()])).all():
            trouble, found = "its loss or gradient is not a finite number", None
        progress = self.progress
        progress.step += 1
        if found:
            self.optimiser.step()
            if self.average:
                self.average.update(progress.step)
            progress.skipped_in_row = 0
        else:
            self.skip_step(batches, trouble)
        self.schedule.step()
        self.optimiser.zero_grad()
        return found

    def skip_step(self, batches: list[Batch], trouble: str) -> None:
        """Counts and logs a step that could not be made.

        Raises:
            EchoError: too many in a row.
        """
        progress, limit = self.progress, self.config.train.max_skipped_steps
        progress.skipped_steps += 1
        progress.skipped_in_row += 1
        ids = ", ".join(u.id for b in batches for u in b.utterances)
        logger.warning("step %d is skipped: %s; utterances: %s", progress.step, trouble, ids)
        if progress.skipped_in_row >= limit:
            last = next(iter(self.checkpoints.newest()), "none yet")
            with self.processes.together():
                raise EchoError(
                    f"{self.run}: stopped after {limit} skipped steps in a row, of which the last "
                    f"is {progress.step}: {trouble}; the last good checkpoint is {last}"
                )

    def gradients(self, batches: list[Batch]) -> dict[str, torch.Tensor] | None:
        """Fills in the gradients of one step; returns its losses and the gradients' norm, or None
        where memory ran out.

        Raises:
            EchoError: memory ran out, and other processes wait for this one's gradients.
        """
        try:
            return self.accumulate(batches)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Only now is the error gone, and with it what its traceback kept in memory.
        self.optimiser.zero_grad()
        clear_device_cache(garbage_collection=True)
        seconds = max(b.attention_mask.numel() for b in batches) / FRAMES_PER_SECOND
        trouble = (
            f"step {self.progress.step + 1} ran out of memory on {seconds:.0f} s of audio; choose "
            f"a smaller data.max_batch_seconds (now {self.config.data.max_batch_seconds:g})"
        )
        if self.accelerator.num_processes > 1:
            raise EchoError(f"{self.run}: {trouble}")
        logger.warning(trouble)
        return None

    def accumulate(self, batches: list[Batch]) -> dict[str, torch.Tensor]:
        """Adds up the batches' gradients, cut to `max_grad_norm`."""
        tokens = self.accelerator.reduce(
            torch.stack([(b.labels != IGNORED).sum() for b in batches]).sum(), "sum"
        )
        losses = torch.zeros(3, device=self.accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses += self.backward(batch, tokens)
        norm = whole(
            self.accelerator.clip_grad_norm_(
                self.model.parameters(), self.config.train.max_grad_norm
            )
        )
        total, decoder, ctc = self.accelerator.reduce(losses, "sum") / tokens
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
        if self.alignment is not None:
            objective = objective + self.config.loss.alignment_weight * self.alignment(
                output.ctc_logits,
                batch.labels,
                batch.attention_mask,
                self.special_ids,
                blank=self.tokenizer.pad_token_id,
            )
        if self.config.loss.span_penalty:
            mean_span = torch.stack([span.mean() for span in self.watch.spans.values()]).mean()
            share = (batch.labels != IGNORED).sum()
            objective = objective + self.config.loss.span_penalty * mean_span * share
        losses = torch.stack([loss.total.detach(), loss.decoder, loss.ctc])
        if not batch.utterances:  # silence, by which to take part in the others' step
            objective, losses = objective * 0, losses * 0
        # Several processes average their gradients, where the sum is wanted.
        self.accelerator.backward(objective * (self.accelerator.num_processes / tokens))
        return losses

    def log(self, recorder: Recorder | None, bar: tqdm) -> None:
        """Writes the means over the steps since the last line."""
        steps, self.recent = self.recent, []
        if recorder is None or not steps:
            return
        values: dict[str, Any] = {
            key: fmean(float(step[key]) for step in steps) for key in steps[0]
        }
        progress = self.progress
        values["skipped_steps"] = progress.skipped_steps
        values["learning_rate"] = self.schedule.get_last_lr()[0]
        values["seconds"] = progress.seconds
        values["utterances"] = progress.utterances
        values["utterances_per_second"] = progress.utterances / progress.seconds
        values |= self.data_watch.measure()
        if not self.accelerator.is_fsdp2:  # under which no process has the blocks' weights
            values |= self.watch.measure()
        recorder.record("train", progress.step, values)
        bar.set_postfix(
            {
                "loss": f"{values['loss']:.3f}",
                "WER": "-" if progress.wer is None else f"{100 * progress.wer:.1f}%",
                "utt/s": f"{values['utterances_per_second']:.0f}",
            }
        )

    def evaluate(self, recorder: Recorder | None) -> bool:
        """Measures WER on a fixed part of the evaluation set; returns whether it is good enough
        for the checkpoint to be kept."""
        config = self.config
        with self.averaged():
            transcripts = transcribe_set(
                whole_model(self.accelerator.unwrap_model(self.model)),
                self.tokenizer,
                sample(self.corpus.eval_utterances(), config.train.eval_utterances),
                config.decode,
                config.data.on_error,
                processes=self.processes,
            )
        references = [u.text for u in transcripts.utterances]
        wer = word_errors(references, transcripts.texts).rate
        # The main process writes the folder, so it alone is sure of what is in there.
        keep = self.processes.gather(
            self.processes.is_main and self.checkpoints.is_among_best(wer)
        )[0]
        if recorder is not None:
            recorder.record(
                "eval",
                self.progress.step,
                {"wer": wer, "rtfx": transcripts.rtfx, "seconds": self.progress.seconds},
            )
        self.progress.measured(wer)
        return keep

    def averaged(self) -> AbstractContextManager[None]:
        """The model has the weights that are evaluated and written: their average, if asked for."""
        return self.average.in_place() if self.average else nullcontext()

    def save(self, recorder: Recorder | None) -> None:
        """Writes a checkpoint, from the main process alone."""
        started = time.perf_counter()
        model = whole_model(self.accelerator.unwrap_model(self.model))
        state = {
            "optimiser": whole(self.optimiser.state_dict()),
            "schedule": self.schedule.state_dict(),
            "random": self.processes.gather(random_state()),
            "recent": self.recent,
        }
        with self.processes.together():
            if recorder is None:
                return
            if self.config.lora or self.average:  # the checkpoint's model has other weights
                state["trained"] = trained_state(model)
            if self.average:
                state["average"] = self.average.values
            with self.averaged():
                written = merged(model) if self.config.lora else model
                self.checkpoints.save(written, self.tokenizer, state, self.progress, self.card())
            seconds = time.perf_counter() - started
            recorder.record("checkpoint", self.progress.step, {"seconds": seconds})

    def card(self) -> str:
        """The model card of a checkpoint of this step."""
        events = [event for event in read_metrics(self.run) if event["kind"] == "eval"]
        generation = self.accelerator.unwrap_model(self.model).generation_config
        return model_card(
            self.config,
            self.run.resolve().name,
            language=told_language(generation),
            corpus=self.corpus,
            evaluations=[(event["step"], event["wer"]) for event in events],
            step=self.progress.step,
        )


def has_unused(model: EchoForConditionalGeneration) -> bool:
    """Whether weights may go without a gradient, for which DDP would wait unless told: hard
    windows hand none back to what predicts their spans."""
    return any(isinstance(module, HybridAttention) for module in model.modules())


def mixed_precision(config: RunConfig) -> str:
    """accelerate's name for the run's precision."""
    if config.train.precision == "auto":
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if bf16 else "no"
    return {"fp32": "no", "bf16": "bf16"}[config.train.precision]
