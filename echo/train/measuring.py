"""The WER of a model while it trains, and what TensorBoard shows of its transcripts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from echo.checkpoints.load import LoadedModel
from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.loading import sample
from echo.data.utterance import evaluation_sets
from echo.evaluate.criterion import read_criterion
from echo.evaluate.decoding import Transcripts, real_time_factor, transcribe_set
from echo.evaluate.evaluation import score
from echo.evaluate.normaliser import row_normalisers
from echo.model.geometry import Limits
from echo.model.model import EchoForConditionalGeneration
from echo.train.examples import show_attention, show_audio, show_transcripts
from echo.train.lora import merged
from echo.train.prepare import not_compiled
from echo.train.recorder import Recorder
from echo.train.sharding import whole_model
from echo.train.state import TrainState, full_precision


@dataclass(frozen=True)
class Measured:
    """The WER of a fixed part of the evaluation sets, as `evaluate` counts it."""

    wer: float  # of several sets, the mean that `train.best` asks for
    sets: Mapping[str, float]  # WER by the name of the set; a single set has the name ""
    rtfx: float  # seconds of audio decoded in a second


@dataclass(eq=False)
class Measuring:
    """Decodes the evaluation sets of a run with its model."""

    config: RunConfig
    state: TrainState
    corpus: AnyCorpus
    tokenizer: Any

    def __call__(self, recorder: Recorder | None, limits: Limits | None = None) -> Measured:
        """Measures the model as it is, and shows in TensorBoard what it heard. `limits` are what
        audio is padded by, in place of the model's own."""
        config, model = self.config, self.state.unwrapped
        heard: dict[str, Transcripts] = {}
        with self.state.averaged(), full_precision(model), not_compiled():
            # Adapters are decoded as they are written.
            decoded = merged(model) if config.lora else whole_model(model)
            for name, utterances in evaluation_sets(self.corpus.eval_utterances()).items():
                heard[name] = transcribe_set(
                    LoadedModel(decoded, self.tokenizer),
                    sample(utterances, config.train.eval_utterances),
                    config.decode,
                    config.data.on_error,
                    processes=self.state.processes,
                    limits=limits,
                )
            if recorder is not None:
                self.show(recorder, heard, decoded)
        wers = {name: self.wer(transcripts) for name, transcripts in heard.items()}
        wer = read_criterion(config.train.best, [*wers], "train.best").wer(wers)
        return Measured(wer, wers, real_time_factor([*heard.values()]))

    def wer(self, transcripts: Transcripts) -> float:
        loaded = LoadedModel(self.state.unwrapped, self.tokenizer)
        return score(transcripts, row_normalisers(loaded, transcripts.utterances)).wer.rate

    def show(
        self,
        recorder: Recorder,
        heard: Mapping[str, Transcripts],
        model: EchoForConditionalGeneration,
    ) -> None:
        """Adds to TensorBoard what the model heard, by the name of the evaluation set."""
        step, show = self.state.progress.step, recorder.trackers.show
        show(partial(show_transcripts, step=step, heard=heard))
        if not recorder.evaluations:
            show(partial(show_audio, step=step, heard=heard))
        count = len(recorder.evaluations) + 1
        if count & (count - 1) == 0:  # a power of 2: drawing takes seconds
            loaded = LoadedModel(model, self.tokenizer)
            show(partial(show_attention, step=step, heard=heard, loaded=loaded))
