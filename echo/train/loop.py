"""The training loop."""

import logging
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from echo.attention.base import FocusedAttention
from echo.checkpoints.card import model_card, without_folders
from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.loading import ExampleReader, sample
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.model.geometry import Limits
from echo.model.language import told_language, written_language
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import EchoError, StoppedError
from echo.support.signals import StopRequest
from echo.train.batches import StepBatches, step_batches
from echo.train.build import ctc_weight
from echo.train.lora import add_adapters, merged, save_adapter
from echo.train.optimiser import freeze
from echo.train.recorder import Recorder, read_metrics
from echo.train.sharding import check_strategy, whole_model
from echo.train.state import TrainState, full_precision, random_state, restore_random_state
from echo.train.step import Done, Skipped, TrainStep
from echo.train.summary import beginning
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
        heard: Limits | None = None,
    ) -> None:
        """
        Args:
            heard: what the model heard before training, by which its WER is measured first; None
                measures none.
        """
        self.config = config
        self.run = run
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.processes = Processes.started()
        self.accelerator = Accelerator(
            mixed_precision=mixed_precision(config),
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=has_unused(model))
            ],
        )
        self.watch = AttentionWatch(model)
        self.data_watch = DataWatch()
        # A loaded weight lies where it lay in its file. Kernels round differently for differently
        # aligned memory, so a resumed run would drift from the unbroken one.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        # Whisper's sinusoids are fixed; loading a checkpoint makes them trainable.
        model.model.encoder.embed_positions.requires_grad_(False)
        with self.processes.together():
            check_strategy(self.accelerator, config)
            if config.lora:
                add_adapters(model, config.lora)
            freeze(model, config.train.freeze)
            if model.config.ctc and ctc_weight(config) == 0:
                freeze(model, ["ctc_head"])
        self.state = TrainState(config, model, self.accelerator, self.processes)
        self.step = TrainStep(self.state, tokenizer)
        self.reader = ExampleReader(tokenizer, Limits.of(model.config))
        self.heard = heard
        self.checkpoints = CheckpointFolder(run, config.train.keep_best)
        self.shown: dict[str, str] = {}  # by the progress bar
        # Number, utterances and outcome of the steps that `read_outcomes` has not read yet.
        self.unread: list[tuple[int, str, Done | Skipped]] = []

    def train(self) -> Progress:
        """Trains to the end of the budget, `max_steps` or `max_seconds`.

        Raises:
            StoppedError: a signal asked for it; a checkpoint is written.
            EchoError: too many steps in a row were skipped, or a checkpoint cannot be written.
        """
        with StopRequest() as request, logging_redirect_tqdm():
            for _ in self.steps(request, self.run.name):
                pass
        return self.progress

    def steps(self, request: StopRequest, title: str) -> Generator[None, None, None]:
        """Trains, and yields after each step, once its metrics, evaluation and checkpoint are
        written. Shows a progress bar with this title.

        Raises:
            StoppedError: `request` was made; the step is finished and its checkpoint written.
            EchoError: too many steps in a row were skipped, or a checkpoint cannot be written.
        """
        settings, main = self.config.train, self.processes.is_main
        self.state.model.train()
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
            if main:
                for sentence in beginning(
                    self.config, self.corpus, self.state.unwrapped, self.accelerator
                ):
                    logger.info("%s", sentence)
            if self.progress.wer is not None:
                self.show_wer(self.progress.wer)
            self.measure_first(recorder)
            batches = self.batches()
            if self.state.evaluation_is_due:  # a signal arrived before it
                self.evaluate_and_save(recorder, request)
            while not self.state.finished:
                started = time.perf_counter()
                taken = next(batches)
                waited = time.perf_counter() - started
                outcome = self.step(taken.own)
                self.count(taken, outcome)
                if self.is_reading_step or isinstance(outcome, Skipped):
                    self.read_outcomes()  # within the step's time: it waits for the device
                self.add_seconds(waited, time.perf_counter() - started)
                bar.update()
                if self.progress.step % settings.log_every == 0 or self.state.finished:
                    self.log(recorder)
                self.evaluate_and_save(recorder, request)
                bar.set_postfix(self.shown, refresh=False)
                yield
        if self.state.stale:
            logger.info("stopped: %d evaluations without a better WER", self.progress.stale)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def batches(self) -> Iterator[StepBatches]:
        """The batches of each step, from the run's position on."""
        return step_batches(
            self.config,
            self.corpus,
            self.reader,
            self.progress.position,
            self.processes,
            self.accelerator.device,
        )

    def evaluate_and_save(self, recorder: Recorder | None, request: StopRequest) -> None:
        """Evaluates and writes a checkpoint, each if it is due.

        Raises:
            StoppedError: `request` was made.
        """
        stopping = self.processes.highest(request.number)
        good = self.state.evaluation_is_due and not stopping and self.evaluate(recorder)
        due = self.progress.step % self.config.train.checkpoint_every == 0
        if good or due or stopping or self.state.finished:
            self.save(recorder)
        if stopping:
            number = signal.Signals(stopping)
            raise StoppedError(
                f"{self.run}: stopped by {number.name} after step {self.progress.step}; go on with "
                f"'echo-asr resume {self.run}'",
                number,
            )

    def add_seconds(self, waited: float, seconds: float) -> None:
        """Adds a step's seconds, of which it waited so many for its batches."""
        if self.config.train.max_seconds is not None:  # all processes must stop at the same step
            seconds = max(self.processes.gather(seconds))
        self.progress.seconds += seconds
        self.data_watch.add(waited, seconds)

    @property
    def is_reading_step(self) -> bool:
        """Whether something is written after this step for which the outcomes must be known."""
        train = self.config.train
        every = train.log_every, train.eval_every, train.checkpoint_every
        return any(self.progress.step % n == 0 for n in every) or self.state.finished

    def count(self, taken: StepBatches, outcome: Done | Skipped) -> None:
        """Adds a step to the progress, but for what `read_outcomes` adds."""
        progress = self.progress
        progress.position = taken.position
        progress.utterances += taken.utterances
        progress.skipped += taken.skipped
        ids = ", ".join(u.id for b in taken.own for u in b.utterances)
        self.unread.append((progress.step, ids, outcome))

    def read_outcomes(self) -> None:
        """Adds the outcomes of the steps since the last call to the progress and the metrics.

        Raises:
            EchoError: too many steps in a row were skipped.
        """
        progress, limit = self.progress, self.config.train.max_skipped_steps
        unread, self.unread = self.unread, []
        for step, ids, outcome in unread:
            if isinstance(outcome, Done):
                if outcome.finite:  # waits for the device
                    progress.skipped_in_row = 0
                    self.state.recent.append(outcome.values)
                    continue
                outcome = Skipped.NUMBERS
            progress.skipped_steps += 1
            progress.skipped_in_row += 1
            logger.warning("step %d is skipped: %s; utterances: %s", step, outcome.value, ids)
            if progress.skipped_in_row >= limit:
                last = self.checkpoints.last_good() or "none yet"
                with self.processes.together():
                    raise EchoError(
                        f"{self.run}: stopped after {limit} skipped steps in a row, of which the "
                        f"last is {step}: {outcome.value}; the last good checkpoint is {last}"
                    )

    def log(self, recorder: Recorder | None) -> None:
        """Writes the means over the steps since the last logged line."""
        self.read_outcomes()
        values, progress = self.state.take_metrics(), self.progress
        if recorder is None or not values:
            return
        values |= self.data_watch.measure()
        if not self.accelerator.is_fsdp2:  # in which no process has all weights of a block
            values |= self.watch.measure()
        recorder.record("train", progress.step, values)
        self.shown["loss"] = f"{values['loss']:.3f}"
        self.shown["utt/s"] = f"{values['utterances_per_second']:.0f}"

    def measure_first(self, recorder: Recorder | None) -> None:
        """Measures the WER of what a run begins with, unless it begins with nothing or this was
        done before the run was interrupted. Training goes on as if it had not been measured."""
        if self.heard is None or self.progress.step > 0:
            return
        done = self.processes.is_main and bool(read_metrics(self.run))
        if not self.processes.gather(done)[0]:
            random = random_state()
            self.measure(recorder, self.heard)
            restore_random_state(random)

    def evaluate(self, recorder: Recorder | None) -> bool:
        """Measures the WER at this step; returns whether the checkpoint is to be kept for it."""
        wer = self.measure(recorder)
        # Only the main process writes the folder, so only it knows for sure what is in there.
        keep = self.processes.gather(
            self.processes.is_main and self.checkpoints.is_among_best(wer)
        )[0]
        self.progress.measured(wer)
        return keep

    def measure(self, recorder: Recorder | None, limits: Limits | None = None) -> float:
        """The WER on a fixed part of the evaluation set, as `evaluate` counts it.

        Args:
            limits: what audio is padded by, in place of the model's own.
        """
        config = self.config
        model = self.state.unwrapped
        with self.state.averaged(), full_precision(model):
            transcripts = transcribe_set(
                # Adapters are decoded as they are written.
                merged(model) if config.lora else whole_model(model),
                self.tokenizer,
                sample(self.corpus.eval_utterances(), config.train.eval_utterances),
                config.decode,
                config.data.on_error,
                processes=self.processes,
                limits=limits,
            )
        references, heard = [u.text for u in transcripts.utterances], transcripts.texts
        units = normaliser(written_language(model), self.tokenizer, references).units
        wer = word_errors([units(t) for t in references], [units(t) for t in heard]).rate
        if recorder is not None:
            recorder.record(
                "eval",
                self.progress.step,
                {"wer": wer, "rtfx": transcripts.rtfx, "seconds": self.progress.seconds},
            )
        self.show_wer(wer)
        return wer

    def show_wer(self, wer: float) -> None:
        self.shown["WER"] = f"{100 * wer:.1f}%"

    def save(self, recorder: Recorder | None) -> None:
        """Writes a checkpoint. All processes must call it; the main one writes."""
        self.read_outcomes()
        started = time.perf_counter()
        model = whole_model(self.state.unwrapped)
        state = self.state.state_dict()
        with self.processes.together():
            if recorder is None:
                return
            with self.state.averaged():
                adapter = None
                if self.config.lora:
                    base = without_folders(self.config.init or "")
                    adapter = partial(save_adapter, model, base)
                    model = merged(model)
                self.checkpoints.save(model, self.tokenizer, state, self.card(), adapter)
            seconds = time.perf_counter() - started
            recorder.record("checkpoint", self.progress.step, {"seconds": seconds})

    def card(self) -> str:
        """The model card of a checkpoint of this step."""
        events = [event for event in read_metrics(self.run) if event["kind"] == "eval"]
        return model_card(
            self.config,
            self.run.resolve().name,
            language=told_language(self.state.unwrapped.generation_config),
            corpus=self.corpus,
            evaluations=[(event["step"], event["wer"]) for event in events],
            step=self.progress.step,
        )


def has_unused(model: EchoForConditionalGeneration) -> bool:
    """Whether weights may go without a gradient, for which DDP would wait unless told: those that
    predict a span which is not learned."""
    return any(isinstance(m, FocusedAttention) and not m.learns_span for m in model.modules())


def mixed_precision(config: RunConfig) -> str:
    """accelerate's name for the run's precision."""
    if config.train.precision == "auto":
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if bf16 else "no"
    return {"fp32": "no", "bf16": "bf16"}[config.train.precision]
