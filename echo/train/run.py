"""A run folder, from a config to a trained model."""

import logging
import zlib
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from echo.config import RunConfig, load_run_config, save_yaml, to_dict
from echo.data.corpora import build_corpus
from echo.data.loading import ExampleReader, Limits, check_utterances
from echo.data.utterance import Corpus, FixedCorpus
from echo.errors import ConfigError
from echo.evaluate.load import load_model
from echo.language import is_multilingual
from echo.model import EchoForConditionalGeneration
from echo.train.build import build_model, build_tokenizer, ctc_weight, padding
from echo.train.checkpoint import CheckpointFolder, Progress
from echo.train.loop import Trainer
from echo.train.processes import Processes

logger = logging.getLogger(__name__)


def start_run(config: RunConfig, run: Path, corpus: Corpus | None = None) -> Progress:
    """Trains a new model in a new folder.

    Raises:
        ConfigError: the folder holds another run, or the settings contradict each other.
        DataError: the data are not as they should be.
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
    return trainer.train()


def new_trainer(config: RunConfig, run: Path, corpus: Corpus) -> Trainer:
    """A trainer at the beginning of its run."""
    processes = Processes.started()
    with processes.together():
        set_seed(config.seed)
        model, tokenizer = starting_point(config, corpus)
        corpus = fit_corpus(corpus, config, tokenizer, Limits.of(model.config))
    check_alike(processes, config, corpus, tokenizer)
    trainer = Trainer(config, run, corpus, model, tokenizer)
    if processes.world > 1:  # which have drawn the same weights, but must not drop out the same
        processes.seed(config.seed, step=0)
    return trainer


def starting_point(config: RunConfig, corpus: Corpus) -> tuple[EchoForConditionalGeneration, Any]:
    """The model and tokenizer that a run begins with: those of the checkpoint `init`, as they are,
    or new ones.

    Raises:
        ConfigError: CTC is asked for, and the checkpoint has no head for it; or nothing says which
            language a multilingual checkpoint is to hear.
        EchoError: the checkpoint cannot be loaded.
    """
    data = config.data
    if config.init is None:
        if data.language is not None or data.task is not None:
            raise ConfigError("data.language and data.task are for a multilingual init alone")
        tokenizer = build_tokenizer(config, corpus.train_epoch(0))
        return build_model(config, tokenizer), tokenizer
    loaded = load_model(config.init, language=data.language, task=data.task)
    if is_multilingual(loaded.model) and loaded.tokenizer.language is None:
        raise ConfigError(f"data.language must be given, because {config.init} is multilingual")
    if ctc_weight(config) > 0 and not loaded.model.config.ctc:
        raise ConfigError(f"loss.ctc_weight is not 0, but {config.init} has no CTC head")
    for key, value in padding(data).items():
        setattr(loaded.model.config, key, value)
    return loaded.model, loaded.tokenizer


def resume_run(run: Path, corpus: Corpus | None = None) -> Progress:
    """Goes on with a run from its last checkpoint that is whole, or from its beginning if it was
    stopped before the first.

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
        return new_trainer(config, run, corpus).train()
    path, state, progress = checkpoint
    with processes.together():
        # With lora checkpoints are merged: adapters go on beside what they started from.
        if config.lora:
            model, tokenizer = starting_point(config, corpus)
        else:
            loaded = load_model(str(path))
            model, tokenizer = loaded.model, loaded.tokenizer
        corpus = fit_corpus(corpus, config, tokenizer, Limits.of(model.config))
    check_alike(processes, config, corpus, tokenizer)
    trainer = Trainer(config, run, corpus, model, tokenizer)
    trainer.resume(state, progress)
    return trainer.train()


def check_alike(processes: Processes, config: RunConfig, corpus: Corpus, tokenizer: Any) -> None:
    """
    Raises:
        ConfigError: the processes have not read the same, and would not train one model.
    """
    if processes.world == 1:
        return
    read = {
        "settings": to_dict(config),
        "training data": [(u.id, u.text, u.duration) for u in corpus.train_epoch(0)],
        "tokenizers": sorted(tokenizer.get_vocab().items()),
    }
    for what, content in read.items():
        if len(set(processes.gather(zlib.crc32(repr(content).encode())))) > 1:
            with processes.together():
                raise ConfigError(f"the processes have different {what}: they must read the same")


def fit_corpus(corpus: Corpus, config: RunConfig, tokenizer: Any, limits: Limits) -> Corpus:
    """Checks every utterance before training begins, rather than an hour into it. Only a corpus
    that is the same in every epoch can be checked so; its own reader answers for another."""
    if not isinstance(corpus, FixedCorpus):
        return corpus
    return FixedCorpus(
        train=check_utterances(
            corpus.train, ExampleReader(tokenizer, limits), config.data.on_error
        ),
        eval=check_utterances(
            corpus.eval, ExampleReader(tokenizer, limits, labelled=False), config.data.on_error
        ),
    )
