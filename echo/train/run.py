"""Starts and resumes runs: from a config or a run folder to a trained model."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig, load_run_config
from echo.data.corpora.build import build_corpus
from echo.data.corpora.mixed import MixedCorpus
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.data.loading import ExampleReader, check_utterances
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import Limits
from echo.model.language import is_multilingual
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import ConfigError
from echo.support.settings import to_dict
from echo.support.yaml import save_yaml
from echo.train.build import build_model, build_tokenizer, ctc_weight, padding
from echo.train.loop import Trainer

logger = logging.getLogger(__name__)


def start_run(config: RunConfig, run: str | Path, corpus: AnyCorpus | None = None) -> Progress:
    """Trains a new model in a new folder; see `started_trainer`."""
    return started_trainer(config, Path(run), corpus).train()


def started_trainer(config: RunConfig, run: Path, corpus: AnyCorpus | None = None) -> Trainer:
    """A trainer of a new model in a new folder, which then holds the run's config.

    Raises:
        ConfigError: the folder holds another run, or the settings contradict each other.
        DataError: the data cannot be read, or do not fit the model.
    """
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
        save_yaml(to_dict(config), run / "config.yaml")
    return trainer


def new_trainer(config: RunConfig, run: Path, corpus: AnyCorpus) -> Trainer:
    """A trainer at step 0."""
    processes = Processes.started()
    with processes.together():
        set_seed(config.seed)
        model, tokenizer = starting_point(config, corpus)
        corpus = fit_corpus(corpus, config, tokenizer, Limits.of(model.config))
    check_alike(processes, config, corpus, tokenizer)
    trainer = Trainer(config, run, corpus, model, tokenizer)
    if processes.world > 1:  # the same weights, but not the same dropout
        processes.seed(config.seed, step=0)
    return trainer


def starting_point(
    config: RunConfig, corpus: AnyCorpus
) -> tuple[EchoForConditionalGeneration, Any]:
    """The model and tokenizer that a run begins with: those of the checkpoint `init`, or new ones.

    Raises:
        ConfigError: the settings do not fit the checkpoint, which may lack a CTC head or need a
            language; or they contradict each other.
        EchoError: the checkpoint cannot be loaded.
    """
    data = config.data
    if config.loss.alignment_weight > 0 and ctc_weight(config) == 0:
        raise ConfigError(
            "loss.alignment_weight needs a trained CTC head: set loss.ctc_weight above 0"
        )
    if config.init is None:
        if data.language is not None or data.task is not None:
            raise ConfigError("data.language and data.task are for a multilingual init alone")
        tokenizer = build_tokenizer(config, known_utterances(corpus))
        return build_model(config, tokenizer), tokenizer
    loaded = load_model(config.init, language=data.language, task=data.task)
    if is_multilingual(loaded.model) and loaded.tokenizer.language is None:
        raise ConfigError(f"data.language must be given, because {config.init} is multilingual")
    if ctc_weight(config) > 0 and not loaded.model.config.ctc:
        raise ConfigError(f"loss.ctc_weight is not 0, but {config.init} has no CTC head")
    for key, value in padding(data).items():
        setattr(loaded.model.config, key, value)
    return loaded.model, loaded.tokenizer


def resume_run(run: str | Path, corpus: AnyCorpus | None = None) -> Progress:
    """Resumes a run; see `resumed_trainer`."""
    return resumed_trainer(Path(run), corpus).train()


def resumed_trainer(run: Path, corpus: AnyCorpus | None = None) -> Trainer:
    """A trainer in the state of a run's last undamaged checkpoint, or at step 0 if the run has no
    checkpoint yet.

    Raises:
        ConfigError: the folder holds no run.
        EchoError: every checkpoint is damaged.
    """
    processes = Processes.started()
    with processes.together():
        config = load_run_config(run)
        corpus = corpus or build_corpus(config.data, config.seed)
        checkpoint = CheckpointFolder(run).load()
    if checkpoint is None:
        return new_trainer(config, run, corpus)
    path, state = checkpoint
    with processes.together():
        # Checkpoints of lora are merged; the adapters belong to the model that training began with.
        if config.lora:
            model, tokenizer = starting_point(config, corpus)
        else:
            loaded = load_model(str(path))
            model, tokenizer = loaded.model, loaded.tokenizer
        corpus = fit_corpus(corpus, config, tokenizer, Limits.of(model.config))
    check_alike(processes, config, corpus, tokenizer)
    trainer = Trainer(config, run, corpus, model, tokenizer)
    trainer.state.load_state_dict(state)
    return trainer


def known_utterances(corpus: AnyCorpus) -> Sequence[Utterance]:
    """The training utterances that are known before training: all, or a stream's first."""
    if isinstance(corpus, StreamCorpus):
        return corpus.known_utterances()
    return corpus.train_epoch(0)


def check_alike(processes: Processes, config: RunConfig, corpus: AnyCorpus, tokenizer: Any) -> None:
    """Checks that all processes have read the same settings and data.

    Raises:
        ConfigError: they have not.
    """
    if processes.world == 1:
        return
    read = {
        "settings": to_dict(config),
        "training data": [(u.id, u.text, u.duration) for u in known_utterances(corpus)],
        "tokenizers": sorted(tokenizer.get_vocab().items()),
    }
    for what, content in read.items():
        if len(set(processes.gather(zlib.crc32(repr(content).encode())))) > 1:
            with processes.together():
                raise ConfigError(f"the processes have different {what}: they must read the same")


def fit_corpus(corpus: AnyCorpus, config: RunConfig, tokenizer: Any, limits: Limits) -> AnyCorpus:
    """The corpus without the utterances that the model cannot take, checked before training rather
    than an hour into it. Utterances of a stream, and those made anew in each epoch, cannot be
    checked here: each is checked when it is read.

    Raises:
        DataError: an utterance does not fit and `on_error` is "raise", or none fits.
    """
    if not isinstance(corpus, FixedCorpus | MixedCorpus | StreamCorpus):
        return corpus
    on_error = config.data.on_error
    reader = ExampleReader(tokenizer, limits)
    unlabelled = ExampleReader(tokenizer, limits, labelled=False)
    evaluated = check_utterances(corpus.eval, unlabelled, on_error)
    match corpus:
        case FixedCorpus():
            return FixedCorpus(check_utterances(corpus.train, reader, on_error), evaluated)
        case MixedCorpus():
            checked = [
                replace(source, parts=check_utterances(source.parts, reader, on_error))
                for source in corpus.sources
            ]
            return replace(corpus, sources=checked, eval=evaluated)
        case StreamCorpus():
            return replace(corpus, eval=evaluated)
