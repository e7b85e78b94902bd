import json
import random
import sys
from pathlib import Path

import pytest

from echo.data.audio import AudioFile
from echo.data.corpora import espeak
from echo.data.corpora.espeak import (
    ACCENTS,
    EVAL_VARIANTS,
    TRAIN_VARIANTS,
    SpokenCommands,
    Synthesiser,
    make_corpus,
    plan,
    synthesiser,
)
from echo.data.corpora.phrases import draw_phrase
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError, EchoError


@pytest.fixture(scope="module")
def loader():
    return pytest.importorskip("espeakng_loader", reason='needs pip install "echo-asr[demo]"')


@pytest.fixture(scope="module")
def cache(loader, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    make_corpus(cache, 8, 4)
    return cache


def manifest(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_what_is_written(cache):
    folder = make_corpus(cache, 8, 4)
    for split, count in (("train", 8), ("dev", 4)):
        lines = manifest(folder, split)
        assert len(lines) == count
        for line in lines:
            samples = AudioFile(folder / line["audio_filepath"]).load()
            assert len(samples) / SAMPLE_RATE == line["duration"]
            assert 0.4 < line["duration"] < 5
            assert 0.1 < samples.abs().max() <= 1


def test_second_call_does_not_synthesise(cache, monkeypatch):
    before = sorted(cache.iterdir())
    assert [path.name[:10] for path in before] == ["espeak-v1-"]  # and nothing left over
    monkeypatch.setattr(espeak, "synthesiser", None)
    assert make_corpus(cache, 8, 4) == before[0]


def test_other_settings_are_another_corpus(cache, tmp_path):
    assert make_corpus(tmp_path, 2, 1).name != make_corpus(cache, 8, 4).name


def test_read_as_a_corpus(cache):
    corpus = SpokenCommands(cache, 8, 4)
    assert corpus.train_epoch(0) == corpus.train_epoch(1)
    assert (len(corpus.train_epoch(0)), len(corpus.eval_utterances())) == (8, 4)
    first = corpus.train_epoch(0)[0]
    assert len(first.audio.load()) / SAMPLE_RATE == pytest.approx(first.duration)


def test_the_dev_split_is_of_voices_held_out_of_training(cache):
    corpus = SpokenCommands(cache, 40, 4, split="dev")
    trained, measured = (
        {u.speaker.split("+")[1] for u in utterances}
        for utterances in (corpus.train_epoch(0), corpus.eval_utterances())
    )
    assert trained
    assert measured
    assert not trained & measured
    assert measured <= set(TRAIN_VARIANTS)
    whole = SpokenCommands(cache, 40, 4)
    assert {u.id for u in corpus.train_epoch(0)} < {u.id for u in whole.train_epoch(0)}


def test_same_corpus_anywhere(cache, tmp_path):
    folder, again = make_corpus(cache, 8, 4), make_corpus(tmp_path, 8, 4)
    assert folder.name == again.name
    for one, other in zip(manifest(folder, "train"), manifest(again, "train"), strict=True):
        # eSpeak's state in the process moves the speech by a few samples.
        assert one.pop("duration") == pytest.approx(other.pop("duration"), abs=5e-3)
        assert one == other


def test_made_twice_at_once(cache, tmp_path, monkeypatch):
    """Another process finishes the same corpus while this one is synthesising it."""
    finished = make_corpus(cache, 8, 4)
    render = espeak.render

    def overtaken(prompt, synthesise):
        if not (tmp_path / finished.name).exists():
            (tmp_path / finished.name / "theirs").mkdir(parents=True)
        return render(prompt, synthesise)

    monkeypatch.setattr(espeak, "render", overtaken)
    folder = make_corpus(tmp_path, 8, 4)
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [folder]


def test_nothing_is_left_of_a_failure(loader, tmp_path, monkeypatch):
    def fail(prompt, synthesise):
        raise KeyboardInterrupt

    monkeypatch.setattr(espeak, "render", fail)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path, 8, 4)
    assert list(tmp_path.iterdir()) == []


def test_test_speakers_are_unheard():
    assert not set(TRAIN_VARIANTS) & set(EVAL_VARIANTS)
    heard = {prompt.speaker for prompt in plan("train", TRAIN_VARIANTS, 2400)}
    assert heard == {f"{accent}+{variant}" for accent in ACCENTS for variant in TRAIN_VARIANTS}


def test_voices_exist(loader):
    # eSpeak takes an unknown variant for none, without a word.
    variants = {path.name for path in Path(loader.get_data_path(), "voices", "!v").iterdir()}
    assert variants >= {*TRAIN_VARIANTS, *EVAL_VARIANTS}
    synthesise = synthesiser()
    for accent in ACCENTS:
        assert len(synthesise("one", f"{accent}+f1", 160, 50)) > 0.1 * SAMPLE_RATE
    with pytest.raises(DataError, match="the voice xx"):
        synthesise("one", "xx", 160, 50)


def test_espeak_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(espeak, "synthesiser", Synthesiser)  # as in a process of its own
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"echo-asr\[demo\]"):
        make_corpus(tmp_path, 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_written(loader, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        EchoError, match=r"file/espeak-v1-.*: cannot be written \(Not a directory\)"
    ):
        make_corpus(tmp_path / "file", 1, 1)


def test_phrases_are_plain_words():
    rng = random.Random(0)
    phrases = [draw_phrase(rng) for _ in range(2000)]
    assert all(set(phrase) <= set("abcdefghijklmnopqrstuvwxyz ") for phrase in phrases)
    assert 60 <= len({word for phrase in phrases for word in phrase.split()}) <= 90
