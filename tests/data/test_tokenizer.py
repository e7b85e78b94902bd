import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)

from echo.data.tokenizer import (
    decode_transcripts,
    encode_transcript,
    load_tokenizer,
    train_tokenizer,
)
from echo.support.errors import DataError

TEXTS = ["three one four", "l'été à la plage", "turn on the light", "ünï 你好 你 😀"]
CHARACTERS = sorted(set("".join(TEXTS)))
TOKENIZERS = {
    "characters": train_tokenizer(TEXTS, "characters"),
    "bpe": train_tokenizer(TEXTS, "bpe", 300),
}


def assert_round_trip(tokenizer, text):
    ids = encode_transcript(tokenizer, text)
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert ids[-1] == tokenizer.eos_token_id
    assert decode_transcripts(tokenizer, [ids]) == [" ".join(text.split())]


@given(st.text(CHARACTERS))
def test_characters_round_trip(text):
    assert_round_trip(TOKENIZERS["characters"], text)


@given(st.text().filter(lambda text: "<|" not in text))
def test_bpe_round_trips_any_text(text):
    assert_round_trip(TOKENIZERS["bpe"], text)


def test_a_character_is_a_token():
    tokenizer = TOKENIZERS["characters"]
    for text in TEXTS:
        assert len(encode_transcript(tokenizer, text)) == len(text) + 3  # a space, start and end


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_nothing_is_between_the_start_and_the_end_of_an_empty_text(kind):
    tokenizer = TOKENIZERS[kind]
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert encode_transcript(tokenizer, "") == [start, tokenizer.eos_token_id]


def test_unknown_characters_are_named():
    with pytest.raises(DataError, match='without "xä"'):
        encode_transcript(TOKENIZERS["characters"], "one ä net x")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_text_cannot_pass_for_special_tokens(kind):
    with pytest.raises(DataError, match="cannot write"):
        encode_transcript(TOKENIZERS[kind], "one <|endoftext|> four")


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(["", "  "])
    with pytest.raises(DataError, match="260 or more"):
        train_tokenizer(TEXTS, "bpe", 100)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_padding_is_not_the_end(kind):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = encode_transcript(tokenizer, "one")
    padded = ids + [tokenizer.pad_token_id] * 3
    assert decode_transcripts(tokenizer, [padded]) == ["one"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_same_texts_same_vocabulary(kind):
    size = {"characters": None, "bpe": 300}[kind]
    assert train_tokenizer(TEXTS, kind, size).get_vocab() == TOKENIZERS[kind].get_vocab()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_save_and_load(kind, tmp_path):
    tokenizer = TOKENIZERS[kind]
    tokenizer.save_pretrained(tmp_path)
    for loaded in (load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded.pad_token_id == tokenizer.pad_token_id
        for text in TEXTS:
            assert encode_transcript(loaded, text) == encode_transcript(tokenizer, text)
    if kind == "characters":
        with pytest.raises(DataError, match="without"):
            encode_transcript(loaded, "xyz")


def test_a_long_text_does_not_fill_the_message():
    with pytest.raises(DataError) as caught:
        encode_transcript(TOKENIZERS["characters"], "one ä\n" * 1000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_no_tokenizer_to_load(tmp_path):
    with pytest.raises(DataError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    TOKENIZERS["bpe"].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="no tokenizer can be loaded"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="without a vocabulary"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_works_in_the_pipeline(kind):
    tokenizer = TOKENIZERS[kind]
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_target_positions=32,
        decoder_start_token_id=start,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        begin_suppress_tokens=None,
        suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    token = encode_transcript(tokenizer, "on")[1]
    with torch.no_grad():  # always says the same token
        model.model.decoder.layer_norm.weight.zero_()
        model.model.decoder.layer_norm.bias.copy_(model.proj_out.weight[token] * 1000)
    transcribe = pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=tokenizer,
        feature_extractor=WhisperFeatureExtractor(),
    )
    said = transcribe(np.zeros(16_000, np.float32), generate_kwargs={"max_new_tokens": 3})
    assert said["text"] == tokenizer.decode([token] * 3)


def test_whisper_checkpoint(shared):
    tokenizer = load_tokenizer(shared / "models" / "whisper-tiny.en")
    ids = encode_transcript(tokenizer, "Hello  there")
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<|startoftranscript|>",
        "<|notimestamps|>",
        "ĠHello",
        "Ġthere",
        "<|endoftext|>",
    ]
    assert decode_transcripts(tokenizer, [ids, ids[1:]]) == ["Hello there"] * 2
