"""The training loop."""

import logging
import signal
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from tqdm.contrib.logging import logging_redirect_tqdm

from echo.checkpoints.card import model_card, without_folders
from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.loading import ExampleReader
from echo.model.geometry import Limits
from echo.model.language import language_of_text
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import StoppedError
from echo.support.progress import progress_bar
from echo.support.signals import StopRequest
from echo.train.batches import StepBatches, TrainingBatches
from echo.train.lora import merged, save_adapter
from echo.train.losses.divergence import Divergence
from echo.train.measuring import Measuring
from echo.train.outcomes import Outcomes
from echo.train.prepare import new_accelerator, prepare
from echo.train.recorder import SET_WER, Recorder, measured_wers, read_evaluations
from echo.train.sharding import whole_model
from echo.train.state import TrainState, checksum, random_state, restore_random_state
from echo.train.step import Done, Skipped, TrainStep
from echo.train.summary import beginning, end_facts, evaluated
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
        start: EchoForConditionalGeneration | None = None,
    ) -> None:
        """`heard` is what the model heard before training, by which its WER is measured first; None
        measures none. `start` is a copy of it before training, for `loss.anchor_kl`."""
        self.config = config
        self.run = run
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.processes = Processes.started()
        self.accelerator = new_accelerator(config, model)
        self.watch = AttentionWatch(model)
        self.data_watch = DataWatch()
        prepare(model, config, self.accelerator, self.processes)
        self.state = TrainState(config, model, self.accelerator, self.processes)
        self.step = TrainStep(self.state, tokenizer, start)
        frozen: dict[str, Iterable[nn.Parameter]] = {
            f"loss.{loss.setting}": loss.model.parameters()
            for loss in self.step.losses
            if isinstance(loss, Divergence)
        }
        if config.lora:
            frozen["lora"] = (p for p in model.parameters() if not p.requires_grad)
        self.state.frozen = {user: checksum(weights) for user, weights in frozen.items()}
        self.reader = ExampleReader.of(model, tokenizer)
        self.source = TrainingBatches(
            config, corpus, self.reader, self.processes, self.accelerator.device
        )
        self.measuring = Measuring(config, self.state, corpus, tokenizer)
        self.heard = heard
        self.checkpoints = CheckpointFolder(run, config.train.keep_best)
        self.shown: dict[str, str] = {}  # by the progress bar
        self.loss: float | None = None  # the last one logged
        self.title = run.name
        self.outcomes = Outcomes(self.checkpoints, self.step, self.source.again)

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
        bar = progress_bar(
            total=settings.max_steps,
            initial=self.progress.step,
            unit="step",
            desc=title,
            shown=main,
        )
        self.title = title
        with ExitStack() as stack:
            stack.callback(bar.close)
            recorder = None
            with self.processes.together():
                if main:
                    recorder = Recorder(self.run, title.strip(), self.config, self.progress.step)
                    stack.enter_context(closing(recorder))
                    stack.push(partial(self.end, recorder))
                    self.begin(recorder)
            if measured := read_evaluations(self.run):
                self.show_wers(measured_wers(measured[-1]))
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
                    self.outcomes.read()  # within the step's time: it waits for the device
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

    def begin(self, recorder: Recorder) -> None:
        """Says and records what the run begins with."""
        model = self.state.unwrapped
        said = beginning(self.config, self.corpus, self.reader, model, self.accelerator)
        for subject, sentence in said.items():
            logger.info("%s: %s", subject, sentence)
        train, begun = self.config.train, datetime.now(UTC).isoformat(timespec="seconds")
        budget = {"max_steps": train.max_steps, "max_seconds": train.max_seconds}
        recorder.record("start", self.progress.step, {**said, **budget, "time": begun})

    def end(
        self,
        recorder: Recorder,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Records how the run ended, by the exception that ends it if there is one."""
        facts = end_facts(self.run, self.config, self.progress, error)
        with suppress(OSError):  # the disk is full, which training reports itself
            recorder.record("end", self.progress.step, facts)

    def batches(self) -> Iterator[StepBatches]:
        """The batches of each step, from the run's position on."""
        return self.source.steps(self.progress.position)

    def evaluate_and_save(self, recorder: Recorder | None, request: StopRequest) -> None:
        """Evaluates and writes a checkpoint, each if it is due. Raises StoppedError by
        `request`."""
        stopping = self.processes.highest(request.number)
        good = self.state.evaluation_is_due and not stopping and self.evaluate(recorder)
        due = self.progress.step % self.config.train.checkpoint_every == 0
        if good or due or stopping or self.state.finished:
            self.save(recorder)
        if stopping:
            number = signal.Signals(stopping)
            raise StoppedError(
                f"{self.run}: stopped by {number.name} after step {self.progress.step}; continue "
                f"with 'echo-asr resume {self.run}'",
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
        """Adds a step to the progress, but for what `Outcomes.read` adds."""
        progress = self.progress
        progress.position = taken.position
        progress.utterances += taken.utterances
        progress.skipped += taken.skipped
        self.outcomes.add(progress.step, taken, outcome)

    def log(self, recorder: Recorder | None) -> None:
        """Writes the means over the steps since the last logged line."""
        self.outcomes.read()
        values, progress = self.state.take_metrics(), self.progress
        if recorder is None or not values:
            return
        values |= self.data_watch.measure()
        if not self.accelerator.is_fsdp2:  # in which no process has all weights of a block
            with self.accelerator.autocast():  # the blocks' inputs have the precision of training
                values |= self.watch.measure()
        recorder.record("train", progress.step, values)
        self.loss = values["loss"]
        self.shown["loss"] = f"{values['loss']:.3f}"
        self.shown["utt/s"] = f"{values['utterances_per_second']:.0f}"

    def measure_first(self, recorder: Recorder | None) -> None:
        """Measures the WER of what a run begins with, unless it begins with nothing or this was
        done before the run was interrupted. Training goes on as if it had not been measured."""
        if self.heard is None or self.progress.step > 0:
            return
        done = recorder is not None and bool(recorder.evaluations)
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
        """Measures, records and shows the WER, see `Measuring`; returns that of `train.best`."""
        found = self.measuring(recorder, limits)
        if recorder is not None:
            named = {f"{SET_WER}{name}": value for name, value in found.sets.items() if name}
            seconds = self.progress.seconds
            values = {"wer": found.wer, **named, "rtfx": found.rtfx, "seconds": seconds}
            recorder.record("eval", self.progress.step, values)
            rate = self.state.learning_rates()["learning_rate"]
            line = evaluated(recorder.evaluations, self.config, self.loss, rate)
            logger.info("%s: %s", self.title, line)
        self.show_wers(found.sets)
        return found.wer

    def show_wers(self, wers: Mapping[str, float]) -> None:
        for name, wer in wers.items():
            self.shown[f"WER {name}".strip()] = f"{100 * wer:.1f}%"

    def save(self, recorder: Recorder | None) -> None:
        """Writes a checkpoint. All processes must call it; the main one writes."""
        self.outcomes.read()
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
        return model_card(
            self.config,
            self.run.resolve().name,
            language=language_of_text(self.state.unwrapped.generation_config),
            corpus=self.corpus,
            evaluations=[
                (event["step"], measured_wers(event)) for event in read_evaluations(self.run)
            ],
            step=self.progress.step,
        )
