"""Language and task of a multilingual Whisper: in labels, in decoding, and in what is saved."""

import re
from pathlib import Path

import pytest
from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder, save_model
from echo.config import DataSettings, RunConfig
from echo.data.sources import read_source
from echo.data.tokenizer import encode_transcript
from echo.data.utterance import FixedCorpus, Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.normaliser import normaliser
from echo.inspect.inspect import inspect_recording
from echo.model.language import written_language
from echo.support.errors import ConfigError
from echo.support.settings import build
from echo.train.run import start_run
from echo.train.start import starting_point
from echo.transcribe.transcribe import TranscribeSettings, transcribe_recordings
from tests.data.recordings import tone, write, write_manifest
from tests.small_whisper import TOKENIZER, edit, save_whisper, small_whisper

LETTERS = [token for token in TOKENIZER.get_vocab() if not token.startswith("<|")]
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|notimestamps|>",
]
IDS = {token: i for i, token in enumerate([*LETTERS, *SPECIAL])}


@pytest.fixture
def multilingual(tmp_path):
    tokenizer = WhisperTokenizer(
        vocab=IDS, merges=[], pad_token="<|endoftext|>", extra_special_tokens=SPECIAL[1:]
    )
    start, end = IDS["<|startoftranscript|>"], IDS["<|endoftext|>"]
    ids = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end}
    ids["bos_token_id"] = end
    folder = save_whisper(small_whisper(vocab_size=len(IDS), **ids), tmp_path / "whisper")
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    edit(
        "generation_config.json",
        **ids,
        lang_to_id={f"<|{code}|>": IDS[f"<|{code}|>"] for code in LANGUAGES if code != "haw"},
        task_to_id={task: IDS[f"<|{task}|>"] for task in ("translate", "transcribe")},
        no_timestamps_token_id=IDS["<|notimestamps|>"],
        forced_decoder_ids=None,
        return_timestamps=False,
    )(folder)
    return str(folder)


def prompt(loaded):
    ids = encode_transcript(loaded.tokenizer, "dog")
    return "".join(loaded.tokenizer.convert_ids_to_tokens(ids)).split("Ġ")[0]


@pytest.mark.parametrize(
    ("language", "task"), [("German", None), ("de", "translate"), ("<|de|>", None)]
)
def test_labels_and_decoding_begin_alike_and_are_kept(multilingual, tmp_path, language, task):
    loaded = load_model(multilingual, language=language, task=task)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"))
    for found in (loaded, again):
        expected = f"<|startoftranscript|><|de|><|{task or 'transcribe'}|><|notimestamps|>"
        assert prompt(found) == expected
        begun = found.model._retrieve_init_tokens(
            None, 1, found.model.generation_config, found.model.config, 200, {}
        )
        assert begun.tolist() == [[IDS[f"{token}>"] for token in expected.split(">")[:-1]]]
        assert written_language(found.model) == ("en" if task else "de")


def test_without_a_language_nothing_is_set(multilingual):
    loaded = load_model(multilingual)
    assert loaded.tokenizer.language is None
    assert getattr(loaded.model.generation_config, "language", None) is None


@pytest.mark.parametrize("language", ["klingon", "haw"])
def test_an_unknown_language_is_named(multilingual, language):
    with pytest.raises(ConfigError, match=re.escape(f"knows no language {language!r}")):
        load_model(multilingual, language=language)


def test_an_english_only_checkpoint_hears_and_writes_english(tmp_path):
    folder = save_whisper(small_whisper(), tmp_path / "whisper")
    edit("generation_config.json", is_multilingual=False)(folder)
    load_model(str(folder), language="en", task="transcribe")
    for wanted in ({"language": "de"}, {"task": "translate"}):
        [value] = wanted.values()
        with pytest.raises(ConfigError, match=f"cannot do '{value}', because it is not multiling"):
            load_model(str(folder), **wanted)


def test_each_language_has_a_normaliser():
    assert normaliser("en", None)("Twenty colours") == "20 colours"
    assert normaliser("de", None)("Zwölf, (äh) Bären!") == "zwölf bären "
    assert normaliser("zh", None)("你好") == "你 好"


def test_a_run_that_is_told_no_language_does_not_begin(multilingual):
    found = starting_point(RunConfig(init=multilingual, data=DataSettings(language="de")), None)
    assert found[1].language == "de"
    corpus = FixedCorpus([Utterance("a", None, "hallo", 1.0)], [])
    with pytest.raises(ConfigError, match=r"data\.language must be given, .* is multilingual"):
        starting_point(RunConfig(init=multilingual), corpus)
    for task in ("transcribe", "translate"):
        with pytest.raises(ConfigError, match=r"data\.task is only for a multilingual init"):
            starting_point(RunConfig(data=DataSettings(task=task)), None)


@pytest.fixture
def from_scratch(tmp_path):
    """Trains a model from scratch for a step, on one text, and evaluates it on it; told a language
    or none. Returns its folder."""

    def train(text, language=None):
        write(tmp_path / "tone.wav", tone(1.0))
        row = {"audio_filepath": "tone.wav", "text": text, "duration": 1.0}
        data = str(write_manifest(tmp_path / "data.jsonl", row))
        content = {
            "model": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2},
            "data": {"train": data, "eval": data, "workers": 0, "language": language},
            "train": {"max_steps": 1, "eval_every": 1, "trackers": []},
        }
        start_run(build(RunConfig, content, "test"), tmp_path / "run")
        return tmp_path / "run"

    return train


GERMAN = "Zwölf (äh) Bären hören twenty colours"
HINDI = "रही है"


def test_a_model_from_scratch_names_the_language_that_it_was_told(from_scratch, tmp_path):
    run = from_scratch(GERMAN, "German")
    folder = CheckpointFolder(run).path("last")
    loaded = load_model(str(folder), language="de")
    assert written_language(loaded.model) == "de"
    assert "language: de\n" in (folder / "README.md").read_text()
    [found] = transcribe_recordings(loaded, [tmp_path / "tone.wav"])
    assert found.language == "de"
    rows = read_source(str(tmp_path / "data.jsonl"))
    measured = evaluate_model(loaded, rows)
    assert measured.normaliser == "Whisper's basic normaliser, with marks kept"
    assert measured.references_normalised == ["zwölf bären hören twenty colours"]
    for wanted in ({"language": "en"}, {"task": "translate"}):
        with pytest.raises(ConfigError, match=r"knows no language 'en'; it knows: de|cannot do"):
            load_model(str(folder), **wanted)


def test_a_model_from_scratch_that_was_told_no_language_is_not_taken_for_english(
    from_scratch, tmp_path
):
    run = from_scratch(HINDI)
    loaded = load_model(str(run), "last")
    assert written_language(loaded.model) is None
    [found] = transcribe_recordings(loaded, [tmp_path / "tone.wav"])
    assert found.language is None
    rows = read_source(str(tmp_path / "data.jsonl"))
    measured = evaluate_model(loaded, rows)
    assert measured.references_normalised == [HINDI]  # the English one would drop its vowels
    hindi = TranscribeSettings(language="Hindi")
    assert transcribe_recordings(loaded, [tmp_path / "tone.wav"], hindi)[0].language == "hi"
    assert written_language(load_model(str(run), "last", language="hi").model) == "hi"


def test_a_model_from_scratch_may_speak_a_language_that_no_whisper_knows(from_scratch):
    run = from_scratch("saluton", "eo")
    assert written_language(load_model(str(run), "last").model) == "eo"
    corpus = FixedCorpus([Utterance("a", None, "nuqneH", 1.0)], [])
    with pytest.raises(
        ConfigError, match=r"data\.language: 'klingon' is not a language; give a co"
    ):
        starting_point(RunConfig(data=DataSettings(language="klingon")), corpus)


def test_inspection_reads_the_prompt_of_the_language_that_is_heard(multilingual, tmp_path):
    path = write(tmp_path / "tone.wav", tone(1.0))
    found = inspect_recording(load_model(multilingual), Path(path))
    start, language, task, without = found.tokens[:4]
    assert (start, task, without) == (
        "<|startoftranscript|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    )
    assert language.strip("<|>") in LANGUAGES
