"""What a checkpoint's configs hold beyond Whisper's own: named and left out, or refused by name."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AddedToken, WhisperForConditionalGeneration

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.checkpoints.merge import merge_models
from echo.checkpoints.run import save_model
from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.examples import ExampleReader
from echo.data.tokenizer import encode_transcript, load_tokenizer
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.model.language import spoken_language, written_language
from echo.support.errors import ConfigError, DataError, EchoError
from echo.transcribe.transcribe import Transcriber, TranscribeSettings
from tests.data.recordings import tone
from tests.small_multilingual import save_multilingual
from tests.small_whisper import edit, edit_weights, write

GENERATION = "generation_config.json"
ROWS = [Utterance("a", AudioArray(tone(1.0).T, 16_000, "a"), "the fox", 1.0)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    sizes = {"max_source_positions": 300, "max_target_positions": 64}
    return save_multilingual(tmp_path_factory.mktemp("whisper"), **sizes)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "whisper")


def heard(folder):
    return evaluate_model(load_model(folder), ROWS, DecodeSettings(beams=2)).hypotheses


@pytest.fixture(scope="module")
def expected(original):
    found = heard(original)
    assert len(found[0]) > 10  # or equality would say little
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"max_length": 3},
        {"max_new_tokens": 2},
        {"max_new_tokens": 600},
        {"min_new_tokens": 30, "eos_token_id": None},
        {"return_dict_in_generate": True, "output_logits": True},
        {"return_timestamps": True},
        {"num_beams": 4, "num_return_sequences": 2},
        {"num_beams": 4, "length_penalty": -9.0},
        {"repetition_penalty": 5.0},
        {"stop_strings": ["e"]},
        {"max_time": 1e-5},
        {"forced_eos_token_id": 3},
        {"cache_implementation": "static"},
        {"logprob_threshold": -0.1, "no_speech_threshold": 0.1},
        {"do_sample": True, "temperature": 0.7},
        {"temperature": [0.0, 0.5]},
        {"condition_on_prev_tokens": True},
    ],
    ids=str,
)
def test_how_to_decode_is_not_the_checkpoints_to_say(folder, expected, caplog, tmp_path, changes):
    edit(GENERATION, **changes)(folder)
    assert heard(folder) == expected
    for key, value in changes.items():
        assert (key in caplog.text) is (value is not None)
    loaded = load_model(folder)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")  # as training does


@pytest.mark.parametrize(
    "changes",
    [
        {"max_length": 3},
        {"num_beams": 4, "temperature": 0.3},
        {"return_dict": False},
        {"output_attentions": True},
        {"is_encoder_decoder": False},
        {"apply_spec_augment": True},
    ],
    ids=str,
)
def test_nor_is_it_the_models_config(folder, expected, caplog, tmp_path, changes):
    edit("config.json", **changes)(folder)
    assert heard(folder) == expected
    assert "config.json: not used: " in caplog.text
    assert all(key in caplog.text for key in changes)
    convert(folder, tmp_path / "echo")


REFUSED = [
    (GENERATION, {"alignment_heads": "all"}, "its alignment_heads is not a list of"),
    (GENERATION, {"alignment_heads": [[0]]}, "its alignment_heads is not a list of"),
    (GENERATION, {"eos_token_id": [3, 4]}, "its eos_token_id is not of the model's .* of one"),
    (GENERATION, {"pad_token_id": 3}, "its pad_token_id is 3, which its tokenizer reads as text"),
    (GENERATION, {"language": ["de"]}, "its language is not text"),
    (GENERATION, {"language": "xx"}, "knows no language 'xx'"),
    (GENERATION, {"task": "sing"}, "does not know the task 'sing'"),
    (GENERATION, {"lang_to_id": [1]}, "its lang_to_id is not a mapping"),
    (GENERATION, {"lang_to_id": {"<|de|>": 99_999}}, "its lang_to_id is not a mapping"),
    (GENERATION, {"forced_decoder_ids": [3]}, "its forced_decoder_ids is not a list of"),
    (GENERATION, {"is_multilingual": "yes"}, "its is_multilingual is not true or false"),
    (GENERATION, {"max_initial_timestamp_index": -4}, "its max_initial_timestamp_index is not"),
    (GENERATION, {"early_stopping": [1]}, "is no generation config"),
    ("config.json", {"dtype": "float17"}, "its dtype is 'float17', which is no floating-point"),
    ("config.json", {"torch_dtype": "int8"}, "its torch_dtype is 'int8', which is no floating"),
    ("config.json", {"quantization_config": {"bits": 4}}, "has a quantization_config"),
    ("config.json", {"dropout": float("nan")}, "its dropout is nan, but must be from 0 to 1"),
    ("config.json", {"encoder_layerdrop": 2.0}, "its encoder_layerdrop is 2.0, but must be"),
    ("config.json", {"median_filter_width": 2}, "its median_filter_width is 2, but must be odd"),
    ("preprocessor_config.json", {"feature_size": 128}, "its feature_size is 128, but the model"),
    ("preprocessor_config.json", {"do_normalize": True}, "its do_normalize is True, but the"),
    ("processor_config.json", {"feature_extractor": {"hop_length": 9}}, "its hop_length is 9, but"),
    ("tokenizer_config.json", {"eos_token": "<|startoftranscript|>"}, "its eos_token_id is"),
    ("adapter_config.json", {}, "holds a PEFT adapter"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_does_not_fit_together_is_one_sentence(folder, name, changes, message):
    if not (folder / name).exists():
        write(name, "{}")(folder)
    edit(name, **changes)(folder)
    with pytest.raises(EchoError, match=message) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("key", ["pad_to_seconds", "added_silence"])
def test_silence_is_a_finite_length(folder, tmp_path, key, value):
    convert(folder, tmp_path / "echo")
    edit("config.json", **{key: value})(tmp_path / "echo")
    with pytest.raises(DataError, match=f"config.json: is no echo config .*{key} is"):
        load_model(tmp_path / "echo")
    with pytest.raises(ConfigError, match=f"{key} is"):
        evaluate_model(load_model(folder), ROWS, **{key: value})


@pytest.mark.parametrize(
    ("heads", "message"),
    [([], "names no alignment_heads"), ([[7, 0]], "head 0 of layer 7"), ([[0, -1]], "head -1 of")],
)
def test_words_are_timed_by_heads_that_there_are(folder, heads, message):
    suppressed = json.loads((folder / GENERATION).read_text())["suppress_tokens"]
    edit(GENERATION, alignment_heads=heads, suppress_tokens=suppressed[:100])(folder)
    loaded = load_model(folder)
    Transcriber(loaded, TranscribeSettings())
    with pytest.raises(ConfigError, match=message):
        Transcriber(loaded, TranscribeSettings(words=True))


def test_a_configs_own_tokens_stand_in_for_missing_ones(folder, expected):
    edit(GENERATION, decoder_start_token_id=None, eos_token_id=None, pad_token_id=None)(folder)
    assert heard(folder) == expected
    edit("config.json", eos_token_id=None)(folder)
    with pytest.raises(DataError, match="its configs name no eos_token_id"):
        load_model(folder)


def test_an_index_needs_no_metadata(folder, expected):
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": content["weight_map"]}))
    for shard in folder.glob("model-*.safetensors"):
        save_file(load_file(shard), shard)  # without metadata
    assert heard(folder) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, original, tmp_path, value):
    key = "model.decoder.layer_norm.weight"
    edit_weights(lambda tensors: tensors[key].__setitem__(3, value))(folder)
    for use in (
        lambda: load_model(folder),
        lambda: convert(folder, tmp_path / "echo"),
        lambda: merge_models([str(original), str(folder)], [0.5, 0.5], tmp_path / "mean"),
    ):
        with pytest.raises(DataError, match=f"its weight {key} holds numbers that are not finite"):
            use()


def test_whole_numbers_are_no_weights(folder):
    key = "model.decoder.layer_norm.weight"
    edit_weights(lambda tensors: tensors.update({key: tensors[key].long()}))(folder)
    with pytest.raises(DataError, match=f"its weight {key} holds whole numbers"):
        load_model(folder)


def test_weights_that_a_precision_cannot_hold_are_refused(folder, tmp_path):
    key = "model.decoder.layer_norm.weight"
    edit_weights(lambda tensors: tensors[key].__setitem__(3, 1e5))(folder)
    with pytest.raises(
        DataError, match=rf"{key} holds numbers that are too large for torch.float16"
    ):
        convert(folder, tmp_path / "echo", dtype="float16")


def changed_tokenizer(folder, tokens, shrink=False):
    """Adds tokens to the tokenizer, after the timestamps unless the model is to `shrink`."""
    tokenizer = load_tokenizer(folder)
    if not shrink:
        times = [AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False) for i in range(1501)]
        tokenizer.add_tokens(times)
    tokenizer.add_tokens([AddedToken(t, normalized=False, special="<|" in t) for t in tokens])
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        for token in tokens:  # is as likely as a letter
            table[tokenizer.convert_tokens_to_ids(token)] = table[5]
    content = json.loads((folder / GENERATION).read_text())
    content["suppress_tokens"] = [i for i in content["suppress_tokens"] if i < len(tokenizer)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / GENERATION).write_text(json.dumps(content))
    return tokenizer


def test_added_tokens_in_the_place_of_timestamps_are_refused(folder):
    changed_tokenizer(folder, ["fu"], shrink=True)
    with pytest.raises(DataError, match=r"has 'fu' in the place of the timestamp <\|0\.00\|>"):
        load_model(folder)


def test_tokens_added_after_the_timestamps_are_text(folder):
    tokenizer = changed_tokenizer(folder, ["fu"])
    loaded = load_model(folder, language="de")
    ids = encode_transcript(loaded.tokenizer, "fur")
    added = tokenizer.convert_tokens_to_ids("fu")
    assert added in ids
    reader = ExampleReader.of(loaded.model, loaded.tokenizer)
    assert added in reader.read(Utterance("a", ROWS[0].audio, "fur", 1.0)).tokens
    # All that it may write.
    special = loaded.tokenizer.eos_token_id
    loaded.model.generation_config.suppress_tokens = [
        i for i in range(loaded.model.config.vocab_size) if i not in (added, special)
    ]
    assert evaluate_model(loaded, ROWS).hypotheses[0].startswith("fufufu")


def test_a_new_language_is_a_language(folder, tmp_path):
    tokenizer = changed_tokenizer(folder, ["<|gn|>"])
    gn = tokenizer.convert_tokens_to_ids("<|gn|>")
    content = json.loads((folder / GENERATION).read_text())
    edit(GENERATION, lang_to_id={**content["lang_to_id"], "<|gn|>": gn})(folder)
    loaded = load_model(folder, language="gn")
    ids = [
        loaded.tokenizer.convert_tokens_to_ids(f"<|{t}|>") for t in ("transcribe", "notimestamps")
    ]
    reader = ExampleReader.of(loaded.model, loaded.tokenizer)
    assert reader.tokens(ROWS[0])[1:4] == [gn, *ids]
    generated = []
    loaded.model.register_forward_pre_hook(
        lambda _, __, given: generated.append(given["decoder_input_ids"]), with_kwargs=True
    )
    evaluate_model(loaded, ROWS)
    assert generated[0][0, 1:4].tolist() == [gn, *ids]
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert written_language(again.model) == "gn"
    by_row = replace(ROWS[0], language="gn")
    other = load_model(folder, language="de")
    evaluate_model(other, [by_row])
    assert ExampleReader.of(other.model, other.tokenizer).tokens(by_row)[1] == gn


@pytest.mark.parametrize("saved", ["<|de|>", "de", "German"])
def test_a_saved_language_may_be_a_token(folder, saved):
    edit(GENERATION, language=saved)(folder)
    loaded = load_model(folder)
    assert spoken_language(loaded.model.generation_config) == "de"
    de = loaded.tokenizer.convert_tokens_to_ids("<|de|>")
    assert ExampleReader.of(loaded.model, loaded.tokenizer).tokens(ROWS[0])[1] == de


def test_what_forced_tokens_say_is_the_language_and_task(folder):
    content = json.loads((folder / GENERATION).read_text())
    forced = [[1, content["lang_to_id"]["<|de|>"]], [2, content["task_to_id"]["translate"]]]
    edit("config.json", forced_decoder_ids=forced)(folder)
    generation = load_model(folder).model.generation_config
    assert (spoken_language(generation), generation.task) == ("de", "translate")


def test_an_older_checkpoint_knows_the_languages_of_its_tokenizer(folder):
    for key in ("lang_to_id", "task_to_id", "no_timestamps_token_id"):
        edit(GENERATION, **{key: None})(folder)
    loaded = load_model(folder, language="de")
    whole = json.loads((folder / GENERATION).read_text()) | {}
    assert whole["lang_to_id"] is None
    generation = loaded.model.generation_config
    ids = loaded.tokenizer.get_vocab()
    assert generation.lang_to_id["<|de|>"] == ids["<|de|>"]
    assert generation.task_to_id["translate"] == ids["<|translate|>"]
    assert generation.no_timestamps_token_id == ids["<|notimestamps|>"]
    # Of a small vocabulary, nothing says whether it is multilingual.
    edit(GENERATION, is_multilingual=None)(folder)
    with pytest.raises(ConfigError, match="'de', because its generation config is outdated"):
        load_model(folder, language="de")


@pytest.mark.parametrize(
    ("key", "good", "bad"), [("language", "en", "de"), ("task", "transcribe", "translate")]
)
def test_an_english_model_may_only_say_that_it_is_english(tmp_path, key, good, bad):
    folder = save_multilingual(tmp_path, False, max_source_positions=300)
    without = heard(folder)
    edit(GENERATION, **{key: good})(folder)
    assert heard(folder) == without
    edit(GENERATION, **{key: bad})(folder)
    with pytest.raises(ConfigError, match=f"has the {key} '{bad}', but it is not multilingual"):
        load_model(folder)


def test_a_tokenizers_own_prompt_does_not_change_labels(folder, tmp_path):
    edit("tokenizer_config.json", predict_timestamps=True, clean_up_tokenization_spaces=True)(
        folder
    )
    loaded = load_model(folder, language="de")
    text = "the quick brown fox"
    ids = encode_transcript(loaded.tokenizer, text)
    assert loaded.tokenizer.convert_tokens_to_ids("<|notimestamps|>") in ids
    english = save_multilingual(tmp_path / "english", False, max_source_positions=300)
    edit("tokenizer_config.json", language="en", task="transcribe")(english)
    assert len(load_model(english).tokenizer.prefix_tokens) == 2


def test_a_tokenizer_without_timestamps_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = [t for t in content["added_tokens"] if "notimes" not in t["content"]]
    content["model"]["vocab"].pop("<|notimestamps|>", None)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("extra_special_tokens", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"lacks the token <\|notimestamps\|>"):
        load_model(folder)


def test_nothing_is_said_of_a_plain_checkpoint(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load_model(folder)
    assert not caplog.records
