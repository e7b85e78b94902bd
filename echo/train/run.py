"""Starts and resumes runs: from a config or a run folder to a trained model."""

import copy
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from echo.checkpoints.load import load_model
from echo.checkpoints.run import TRAINER_FILE, CheckpointFolder, Progress
from echo.config import RunConfig, load_run_config, unchangeable
from echo.data.build import build_corpus
from echo.data.columns import cells
from echo.data.corpora.stream import AnyCorpus, MixedCorpus, StreamCorpus
from echo.data.examples import ExampleReader, check_utterances
from echo.data.fingerprint import describe, ordered_fingerprint
from echo.data.utterance import (
    Evaluated,
    FixedCorpus,
    Utterance,
    all_evaluated,
    evaluation_sets,
)
from echo.evaluate.criterion import read_criterion
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import ConfigError, DataError, EchoError, reason
from echo.support.lock import locked
from echo.support.provenance import read_provenance, write_provenance
from echo.support.settings import build, to_dict
from echo.support.yaml import load, save_yaml
from echo.train.check import check_run
from echo.train.loop import Trainer
from echo.train.start import described, known_utterances, starting_point

logger = logging.getLogger(__name__)


def start_run(config: RunConfig, run: str | Path, corpus: AnyCorpus | None = None) -> Progress:
    """Trains a new model in a new folder; see `started_trainer`.

    Raises:
        ConfigError: the settings contradict each other; nothing is read or written then.
        EchoError: another process works in the folder, or it cannot be written to.
    """
    with Processes.started().together():
        check_run(config)
    with folder_of_its_own(Path(run)):
        return started_trainer(config, Path(run), corpus).train()


@contextmanager
def folder_of_its_own(run: Path) -> Iterator[None]:
    """Within, no other training works in a run's folder; EchoError if one does already."""
    processes = Processes.started()
    with ExitStack() as stack:
        with processes.together():
            if processes.is_main:  # which writes for all
                stack.enter_context(locked(run))
        yield


def started_trainer(config: RunConfig, run: Path, corpus: AnyCorpus | None = None) -> Trainer:
    """A trainer of a new model in a new folder, which then holds the run's config. ConfigError if
    it holds another run, or the settings contradict each other; DataError if the data cannot be
    read, or do not fit the model."""
    processes = Processes.started()
    with processes.together():
        if (run / "config.yaml").exists():
            raise ConfigError(
                f"{run}: holds another run; resume it with 'echo-asr resume {run}', or choose "
                "another folder"
            )
        corpus = corpus or build_corpus(config.data, config.seed)
    trainer = new_trainer(config, run, corpus)
    if processes.is_main:
        run.mkdir(parents=True, exist_ok=True)
        data = {
            part: {**describe(utterances), "ordered_fingerprint": ordered_fingerprint(utterances)}
            for part, utterances in parts(corpus).items()
        }
        write_provenance(run, data=data)
        save_yaml(to_dict(trainer.config), run / "config.yaml")
    return trainer


def parts(corpus: AnyCorpus) -> dict[str, Sequence[Utterance]]:
    """Returns the utterances that a run is trained on, as far as they are known, and measured
    on."""
    return {
        "training": known_utterances(corpus),
        "evaluation": all_evaluated(corpus.eval_utterances()),
    }


def check_same_data(run: Path, corpus: AnyCorpus) -> None:
    """Raises DataError if the data are not those that a run began with: an order is gone through
    from where the checkpoint stands. Runs of earlier versions did not write them down."""
    begun = read_provenance(run).get("data")
    for part, utterances in parts(corpus).items():
        told = begun.get(part) if isinstance(begun, dict) else None
        before = told.get("ordered_fingerprint") if isinstance(told, dict) else None
        if before is not None and before != ordered_fingerprint(utterances):
            raise DataError(
                f"{run}: the {part} data have other rows, texts or durations than when the run "
                f"began, or another order: put them back as they were, or start another run with "
                f"init={run} to go on from its model"
            )


def new_trainer(config: RunConfig, run: Path, corpus: AnyCorpus) -> Trainer:
    """A trainer at step 0."""
    processes = Processes.started()
    with processes.together():
        set_seed(config.seed)
        sets = evaluation_sets(corpus.eval_utterances())
        read_criterion(config.train.best, [*sets], "train.best")  # before anything is loaded
        model, tokenizer, heard = starting_point(config, corpus)
        config = described(config, model.config, tokenizer)
        corpus = fit_corpus(corpus, config, tokenizer, model)
    check_alike(processes, config, corpus, tokenizer)
    start = copy.deepcopy(model) if config.loss.anchor_kl else None
    trainer = Trainer(config, run, corpus, model, tokenizer, heard, start)
    if processes.world > 1:  # the same weights, but not the same dropout
        processes.seed(config.seed, step=0)
    return trainer


def resume_run(
    run: str | Path, corpus: AnyCorpus | None = None, overrides: Sequence[str] = ()
) -> Progress:
    """Resumes a run; see `resumed_trainer`. EchoError if another process works in the folder, or it
    cannot be written to."""
    with folder_of_its_own(Path(run)):
        return resumed_trainer(Path(run), corpus, overrides).train()


def resumed_trainer(
    run: Path, corpus: AnyCorpus | None = None, overrides: Sequence[str] = ()
) -> Trainer:
    """A trainer in the state of a run's last undamaged checkpoint, or at step 0 if the run has no
    checkpoint yet. The run's config then has the overrides; see `load_run_config`.

    Raises:
        ConfigError: the folder holds no run, or a setting cannot change or was edited.
        DataError: the data are not those that the run began with.
        EchoError: every checkpoint is damaged.
    """
    processes = Processes.started()
    with processes.together():
        config = load_run_config(run, overrides)
        corpus = corpus or build_corpus(config.data, config.seed)
        check_same_data(run, corpus)
        checkpoint = CheckpointFolder(run).load()
        edited = checkpoint is not None and is_edited(run, config, *checkpoint)
    if checkpoint is None:
        trainer = new_trainer(config, run, corpus)
    else:
        trainer = trainer_at(*checkpoint, config, run, corpus)
    if edited or overrides:
        trainer.state.update_learning_rate()
        if processes.is_main:
            save_yaml(to_dict(trainer.config), run / "config.yaml")
    return trainer


def is_edited(run: Path, config: RunConfig, path: Path, state: dict[str, Any]) -> bool:
    """Returns whether a run's settings are others than those of a checkpoint. ConfigError if
    resuming would not apply one. Checkpoints of earlier versions do not hold them."""
    if "config" not in state:
        return False
    try:
        stored = build(RunConfig, load(str(state["config"])), str(path))
    except ValueError as error:
        raise EchoError(f"{path / TRAINER_FILE}: its config is not YAML ({error})") from None
    if key := unchangeable(stored, config):
        raise ConfigError(
            f"{run / 'config.yaml'}: {key} is not what the run was trained with, and cannot change "
            f"when it is resumed: undo the edit, or start another run with init={run} to go on "
            "from its model"
        )
    return config != stored


def trainer_at(
    path: Path, state: dict[str, Any], config: RunConfig, run: Path, corpus: AnyCorpus
) -> Trainer:
    """A trainer in the state of a checkpoint."""
    processes = Processes.started()
    with processes.together():
        loaded = load_model(str(path))
        model, tokenizer = loaded.model, loaded.tokenizer
        config = described(config, model.config, tokenizer)
        start = None
        if config.lora or config.loss.anchor_kl:
            set_seed(config.seed)  # new parameters are drawn as they were at the start
            begun = starting_point(config, corpus, model.config.ctc_vocabulary)
            start = copy.deepcopy(begun.model) if config.loss.anchor_kl else None
            if config.lora:  # whose checkpoints are merged; adapters belong to the first model
                model, tokenizer = begun.model, begun.tokenizer
        corpus = fit_corpus(corpus, config, tokenizer, model)
    check_alike(processes, config, corpus, tokenizer)
    trainer = Trainer(config, run, corpus, model, tokenizer, start=start)
    try:
        trainer.state.load_state_dict(state)
    except (EchoError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise EchoError(f"{path / TRAINER_FILE}: {reason(error)}") from error
    return trainer


def check_alike(processes: Processes, config: RunConfig, corpus: AnyCorpus, tokenizer: Any) -> None:
    """Raises ConfigError unless all processes have read the same settings and data."""
    if processes.world == 1:
        return
    read = {
        "settings": to_dict(config),
        "training data": [*cells(known_utterances(corpus), "id", "text", "duration")],
        "tokenizers": sorted(tokenizer.get_vocab().items()),
    }
    for what, content in read.items():
        if len(set(processes.gather(zlib.crc32(repr(content).encode())))) > 1:
            with processes.together():
                raise ConfigError(f"the processes have different {what}: they must read the same")


def fit_corpus(
    corpus: AnyCorpus, config: RunConfig, tokenizer: Any, model: EchoForConditionalGeneration
) -> AnyCorpus:
    """The corpus without the utterances that the model cannot take, checked before training rather
    than an hour into it. Utterances of a stream, and those made anew in each epoch, cannot be
    checked here: each is checked when it is read."""
    if not isinstance(corpus, FixedCorpus | MixedCorpus | StreamCorpus):
        return corpus

    def fitting(utterances: Sequence[Utterance], labelled: bool = True) -> Sequence[Utterance]:
        reader = ExampleReader.of(model, tokenizer, labelled)
        return check_utterances(utterances, reader, config.data.on_error)

    sets = {name: fitting(each, False) for name, each in evaluation_sets(corpus.eval).items()}
    evaluated: Evaluated = sets if isinstance(corpus.eval, Mapping) else sets[""]
    match corpus:
        case FixedCorpus():
            return FixedCorpus(fitting(corpus.train), evaluated)
        case MixedCorpus():
            sources = [replace(each, parts=fitting(each.parts)) for each in corpus.sources]
            return replace(corpus, sources=sources, eval=evaluated)
        case StreamCorpus():
            return replace(corpus, eval=evaluated)
