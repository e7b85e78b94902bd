"""Language and task row by row: what the decoder reads, in training and in decoding."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from echo.checkpoints.load import load_model
from echo.config import DecodeSettings, PackSettings
from echo.data.audio import AudioArray
from echo.data.batch import IGNORED, Collator
from echo.data.batching import EpochBatches, Position
from echo.data.build import build_corpus
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches
from echo.data.packing import Packer, Window
from echo.data.sources import read_source
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import FixedCorpus, Utterance
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.evaluation import evaluate_model
from echo.model.geometry import Limits
from echo.model.language import known_code
from echo.support.errors import ConfigError, DataError
from echo.train.start import starting_point
from tests.data.recordings import write, write_manifest
from tests.small_multilingual import save_multilingual, small_tokenizer
from tests.train.test_packed_run import settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_multilingual(
        tmp_path_factory.mktemp("multilingual"), max_source_positions=300, max_target_positions=24
    )


@pytest.fixture(scope="module")
def english_folder(tmp_path_factory):
    return save_multilingual(tmp_path_factory.mktemp("english"), False, max_source_positions=300)


@pytest.fixture(scope="module")
def german(folder):
    """Told to translate from German."""
    return load_model(folder, language="de", task="translate")


def reader_of(loaded, labelled=True):
    limits = Limits.of(loaded.model.config)
    return ExampleReader(loaded.tokenizer, limits, labelled, loaded.model.generation_config)


def row(name="a", seconds=1.0, **said):
    samples = np.linspace(0, 0.5, round(16_000 * seconds), dtype=np.float32)
    return Utterance(name, AudioArray(samples, 16_000, name), "the fox", seconds, **said)


def prompt(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids[:4])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ("<|de|>", "<|translate|>")),
        ({"language": "fr"}, ("<|fr|>", "<|translate|>")),
        ({"language": "French", "task": "transcribe"}, ("<|fr|>", "<|transcribe|>")),
        ({"language": "zh-CN", "task": "transcribe"}, ("<|zh|>", "<|transcribe|>")),
        ({"task": "transcribe"}, ("<|de|>", "<|transcribe|>")),
        ({"language": "german", "task": "translate"}, ("<|de|>", "<|translate|>")),
    ],
)
def test_the_prompt_follows_the_row_and_then_the_settings(german, said, expected):
    example = reader_of(german).read(row(**said))
    tokenizer = german.tokenizer
    wanted = ["<|startoftranscript|>", *expected, "<|notimestamps|>"]
    assert prompt(tokenizer, example.tokens) == wanted
    # As the tokenizer of a checkpoint with these settings writes it.
    told = small_tokenizer(language=expected[0].strip("<|>"), task=expected[1].strip("<|>"))
    assert example.tokens == told(" the fox").input_ids
    batch = Collator(tokenizer.pad_token_id)([example])
    assert batch.decoder_input_ids[0].tolist() == example.tokens[:-1]
    assert batch.labels[0].tolist() == example.tokens[1:]
    assert IGNORED not in batch.labels


def test_rows_need_no_setting_where_all_say_their_language(folder):
    loaded = load_model(folder)
    reader = reader_of(loaded)
    found = prompt(loaded.tokenizer, reader.read(row(language="fr")).tokens)
    assert found[1:3] == ["<|fr|>", "<|transcribe|>"]
    with pytest.raises(DataError, match=r"a: has no language: give it in a column 'language'"):
        reader.read(row())
    with pytest.raises(DataError, match="a: has a task but no language"):
        reader.read(row(task="translate"))


@pytest.mark.parametrize("labelled", [True, False])
def test_what_a_model_cannot_do_is_refused_in_training_and_decoding(
    german, english_folder, labelled
):
    reader = reader_of(german, labelled)
    with pytest.raises(DataError, match="a: 'language' is 'klingon', which the model does not k"):
        reader.read(row(language="klingon"))
    with pytest.raises(DataError, match="a: 'task' is 'sing', but must be transcribe or translate"):
        reader.check(row(task="sing"))
    reader = reader_of(load_model(english_folder), labelled)
    with pytest.raises(DataError, match="a: 'language' is 'de', but the model knows only English"):
        reader.check(row(language="de"))
    with pytest.raises(DataError, match="a: 'task' is 'translate', but an English-only model"):
        reader.read(row(task="translate"))
    for said in ({"language": "en"}, {"language": "en-US", "task": "transcribe"}):
        assert reader.read(row(**said)).tokens == reader.read(row()).tokens


def test_a_model_from_scratch_hears_any_language():
    """Its prompt says none, so a column of that name is one like any other."""
    tokenizer = train_tokenizer(["the fox"])
    generation = SimpleNamespace(is_multilingual=False)
    reader = ExampleReader(tokenizer, Limits(80, 600, 24), generation=generation)
    assert reader.read(row(language="klingon", task="sing")).tokens == reader.read(row()).tokens


def test_batches_of_an_evaluation_hold_one_language_and_task(german):
    said = [{}, {"language": "fr"}, {"task": "transcribe"}, {"language": "de"}]
    rows = [row(f"{n}", 1 + n % 5 / 10, **said[n % 4]) for n in range(24)]
    reader = reader_of(german, False)
    reader.limits = replace(reader.limits, pad_to_seconds=0)
    batches = [*evaluation_batches(rows, reader, 6)]
    assert sorted(u.id for b in batches for u in b.utterances) == sorted(u.id for u in rows)
    for batch in batches:
        for utterance in batch.utterances:
            expected = {"language": "de", "task": "translate"}
            expected |= {
                key: value for key in expected if (value := getattr(utterance, key)) is not None
            }
            told = tuple(batch.told) if any(batch.told) else ("de", "translate")
            assert told == tuple(expected.values())
    longest = [max(u.duration for u in batch.utterances) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_decoding_is_that_of_a_model_with_these_settings(folder, german):
    """Row by row as one by one."""
    said = [("de", "translate"), ("fr", "transcribe"), ("en", "transcribe")]
    rows = [row(f"{n}", 1 + n / 4, language=said[n % 3][0], task=said[n % 3][1]) for n in range(6)]
    found = transcribe_set(german, rows, DecodeSettings()).texts
    for utterance, text in zip(rows, found, strict=True):
        alone = load_model(folder, language=utterance.language, task=utterance.task)
        silent = replace(utterance, language=None, task=None)
        expected = transcribe_set(alone, [silent], DecodeSettings()).texts
        assert [text] == expected
    assert len({found[0], found[1]}) == 2  # or the prompt would make no difference


def test_errors_are_counted_as_the_language_of_each_row_is(german, monkeypatch):
    rows = [
        replace(row("en", language="en", task="transcribe"), text="the colour isn't red"),
        replace(row("zh", language="zh", task="transcribe"), text="你好"),
        replace(row("de", language="de", task="transcribe"), text="Schöne Füchse"),
        replace(row("usual"), text="it's a fox"),  # translated to English
    ]
    heard = {
        "en": "the color is not red",
        "zh": "你们",
        "de": "schöne Füchse.",
        "usual": "it is a f",
    }
    monkeypatch.setattr(
        "echo.evaluate.decoding.decode_with_times",
        lambda loaded, batch, settings: [(heard[u.id], None) for u in batch.utterances],
    )
    german.tokenizer.english_spelling_normalizer = {"colour": "color"}
    found = evaluate_model(german, rows)
    errors = [counts.errors for counts in found.words_normalised]
    assert errors == [0, 1, 0, 1]
    assert [c.reference for c in found.words_normalised] == [5, 2, 2, 4]
    assert found.wer_normalised.errors == 2
    assert found.cer_normalised.errors == 1 + len("ox")
    assert found.normaliser.count(";") == 2


def test_the_columns_of_a_source_are_read_and_kept_to_group_by(tmp_path):
    write(tmp_path / "a.wav")
    record = {"audio_filepath": "a.wav", "text": "fox", "duration": 1.0}
    spec = write_manifest(
        tmp_path / "data.jsonl", {**record, "language": "de", "task": "translate"}, record
    )
    told, silent = read_source(spec)
    assert (told.language, told.task) == ("de", "translate")
    assert told.extra["language"] == "de"
    assert silent.language is silent.task is None


def test_training_needs_a_language_for_every_row(folder, tmp_path):
    write(tmp_path / "a.wav")
    record = {"audio_filepath": "a.wav", "text": "fox", "duration": 1.0, "language": "fr"}
    full = write_manifest(tmp_path / "full.jsonl", record, record)
    part = write_manifest(tmp_path / "part.jsonl", record, {**record, "language": ""})
    for spec, refused in ((full, False), (part, True)):
        data = {"language": None, "pack": None}
        config = settings(folder, spec, data=data)
        corpus = build_corpus(config.data, config.seed)
        if refused:
            with pytest.raises(ConfigError, match=r"multilingual and .*part\.jsonl:2 has no lang"):
                starting_point(config, corpus)
        else:
            starting_point(config, corpus)


@given(st.sampled_from(sorted(LANGUAGES.items())), st.sampled_from(["", "-XX", "_yy"]))
def test_a_language_has_a_code_and_a_name_in_any_case(language, region):
    code, name = language
    assert known_code(code.upper() + region) == code
    assert known_code(name.title()) == code
    assert known_code(f"<|{code}|>") == code


def test_windows_hold_one_language(german):
    rows = [row(f"{n}", speaker="a", language=("de", "fr")[n % 2]) for n in range(20)]
    packer = Packer(PackSettings(seconds=6, share=1.0), german.tokenizer, 24)
    sampler = EpochBatches(FixedCorpus(rows, []), 1, 60, 4, [1.0], Position(), packer=packer)
    windows = [i.row for b in sampler.block_batches(0, 0) for i in b if isinstance(i.row, Window)]
    assert windows
    for window in windows:
        (language,) = {part.language for part in window.parts}
        assert window.language == language
        ids = reader_of(german).read(window).tokens
        assert prompt(german.tokenizer, ids)[1] == f"<|{language}|>"
