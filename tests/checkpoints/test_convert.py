"""Whisper made Echo and back: the same output, the same weights, and nothing left of a failure."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForSpeechSeq2Seq,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from echo.attention.adaptive import AdaptiveAttention
from echo.attention.forms import FORMS
from echo.checkpoints.convert import convert, read_attention
from echo.checkpoints.layers import kept_layers
from echo.checkpoints.load import load_model
from echo.checkpoints.pretrained import COMPANIONS
from echo.cli import main
from echo.config import load_config
from echo.data.audio import AudioFile
from echo.data.tokenizer import load_tokenizer
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration, ctc_head
from echo.support.errors import EchoError
from echo.train.run import start_run
from tests.small_whisper import (
    GENERATION,
    SIZES,
    as_shards,
    edit,
    edit_weights,
    save_whisper,
    small_whisper,
    weights,
)
from tests.train.test_loop import tiny

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "attention").glob("*.yaml"))
PLAIN = ["attention.encoder=plain", "attention.decoder=plain"]


@pytest.fixture
def whisper(tmp_path):
    return save_whisper(small_whisper(), tmp_path / "whisper")


def logits(folder, cls=AutoModelForSpeechSeq2Seq):
    model = cls.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(1)
    features, ids = torch.randn(2, 80, 200), torch.randint(0, SIZES["vocab_size"], (2, 9))
    with torch.no_grad():
        return model(features, decoder_input_ids=ids).logits


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


SETTINGS = {
    "by default": [],
    "plain": PLAIN,
    **{form: [f"attention.encoder={form}", f"attention.decoder={form}"] for form in FORMS},
    "a refiner": ["attention.encoder={form: focus, refiner: true}"],
    "of many fields": [
        "attention.encoder=[{temperature: learned, span_per_head: true}, hybrid]",
        "attention.decoder.local_input=projected",
        "attention.max_span=7",
    ],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_an_echo_model_begins_as_its_whisper(whisper, tmp_path, settings):
    convert(whisper, tmp_path / "echo", settings)
    expected = logits(whisper)
    assert expected.std() > 1  # or equality would say little
    torch.testing.assert_close(logits(tmp_path / "echo"), expected, rtol=0, atol=1e-4)


def test_the_local_branch_begins_at_nothing(whisper, tmp_path):
    convert(whisper, tmp_path / "echo", ["attention.decoder=adaptive", "attention.max_span=7"])
    echo = EchoForConditionalGeneration.from_pretrained(tmp_path / "echo")
    blocks = [block for block in echo.modules() if isinstance(block, AdaptiveAttention)]
    assert [block.settings.max_span for block in blocks] == [7, 7, 32, 32]
    for block in blocks:
        assert not block.local_gain.any()
        assert block.span_predictor.linear.weight.any()


@pytest.mark.slow
def test_the_transcript_of_a_real_recording_stays_the_same(shared, tmp_path):
    source = shared / "models" / "whisper-tiny.en"
    convert(source, tmp_path / "echo", ["attention.decoder=adaptive"])
    models = [
        cls.from_pretrained(folder, dtype=torch.float32).eval()
        for cls, folder in (
            (WhisperForConditionalGeneration, source),
            (AutoModelForSpeechSeq2Seq, tmp_path / "echo"),
        )
    ]
    assert isinstance(models[1], EchoForConditionalGeneration)
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path / "echo")
    recording = AudioFile(shared / "data" / "librispeech" / "dev" / "8226-274369-0000.opus")
    features = extractor(
        recording.load().numpy(), sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        whisper, echo = (
            model(features, decoder_input_ids=torch.tensor([[50257, 50362]])).logits
            for model in models
        )
    torch.testing.assert_close(echo, whisper, rtol=0, atol=1e-4)
    whisper, echo = (model.generate(features) for model in models)
    assert echo.tolist() == whisper.tolist()
    texts = load_tokenizer(tmp_path / "echo").batch_decode(echo, skip_special_tokens=True)
    assert "every measure pursued by the commons" in texts[0].lower()


def test_there_and_back_changes_nothing(whisper, tmp_path):
    convert(whisper, tmp_path / "echo", PLAIN)
    convert(tmp_path / "echo", tmp_path / "back")
    same(weights(tmp_path / "back"), weights(whisper))
    assert torch.equal(logits(tmp_path / "back", WhisperForConditionalGeneration), logits(whisper))
    for name in ("config.json", *COMPANIONS):
        if (whisper / name).exists():
            expected = (whisper / name).read_text()
            assert (tmp_path / "back" / name).read_text() == expected, name
    assert sum((whisper / name).exists() for name in COMPANIONS) == 6


def test_the_generation_config_is_kept_and_used(whisper, tmp_path):
    convert(whisper, tmp_path / "echo")
    source = WhisperForConditionalGeneration.from_pretrained(whisper)
    echo = EchoForConditionalGeneration.from_pretrained(tmp_path / "echo")
    assert echo.generation_config.to_dict() == source.generation_config.to_dict()
    assert echo.generation_config.suppress_tokens == GENERATION["suppress_tokens"]
    assert echo.generation_config.alignment_heads == GENERATION["alignment_heads"]
    expected = (whisper / "generation_config.json").read_text()
    assert (tmp_path / "echo" / "generation_config.json").read_text() == expected
    features = torch.randn(2, 80, 200)
    options = {"task": "transcribe", "language": "en", "max_new_tokens": 8}
    assert torch.equal(echo.generate(features, **options), source.generate(features, **options))
    echo.save_pretrained(tmp_path / "again")
    again = EchoForConditionalGeneration.from_pretrained(tmp_path / "again")
    assert again.generation_config.to_dict() == source.generation_config.to_dict()


def as_pickle(model, folder):
    save_whisper(model, folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # which holds proj_out too
    return folder


def as_bare_model(model, folder):
    """A WhisperModel, whose weights' names have no prefix."""
    save_whisper(model, folder)
    model.model.save_pretrained(folder)
    return folder


def with_tied_weights_twice(model, folder):
    save_whisper(model, folder)
    save_file({k: v.clone() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "save", [as_shards, as_pickle, as_bare_model, with_tied_weights_twice], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("settings", [[], PLAIN, ["attention.encoder=hybrid"]], ids=str)
def test_however_the_weights_lie_they_are_the_same(whisper, tmp_path, save, settings):
    model = WhisperForConditionalGeneration.from_pretrained(whisper)
    source = save(model, tmp_path / "source")
    assert save is not as_shards or len(list(source.glob("model-*.safetensors"))) > 2
    convert(whisper, tmp_path / "expected", settings)
    convert(source, tmp_path / "found", settings)
    same(weights(tmp_path / "found"), weights(tmp_path / "expected"))


def test_an_output_projection_of_its_own_is_kept(tmp_path):
    model = small_whisper(tie_word_embeddings=False)
    source = save_whisper(model, tmp_path / "whisper")
    assert not torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight)
    convert(source, tmp_path / "echo")
    torch.testing.assert_close(logits(tmp_path / "echo"), logits(source), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("asked", [None, "float32", "float16", "bfloat16"])
def test_the_precision_is_the_checkpoints_unless_another_is_asked_for(tmp_path, dtype, asked):
    source = save_whisper(small_whisper().to(dtype), tmp_path / "whisper")
    convert(source, tmp_path / "echo", dtype=asked)
    wanted = getattr(torch, asked) if asked else dtype
    found = weights(tmp_path / "echo")
    assert {tensor.dtype for tensor in found.values()} == {wanted}
    for key, tensor in weights(source).items():
        assert torch.equal(found[key], tensor.to(wanted)), key
    assert AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "echo").dtype == wanted


def test_a_conversion_can_be_repeated(whisper, tmp_path):
    for name in ("one", "two"):
        torch.manual_seed(len(name))
        torch.rand(3 if name == "one" else 5)
        convert(whisper, tmp_path / name, ["attention.encoder={form: focus, refiner: true}"])
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two


def test_an_empty_output_folder_may_exist(whisper, tmp_path):
    (tmp_path / "echo").mkdir()
    convert(whisper, tmp_path / "echo")
    assert (tmp_path / "echo" / "model.safetensors").exists()


def test_a_model_without_a_tokenizer_is_converted_with_a_warning(tmp_path, caplog):
    small_whisper().save_pretrained(tmp_path / "whisper")
    convert(tmp_path / "whisper", tmp_path / "echo")
    assert "whisper: holds no tokenizer" in caplog.text


def test_a_model_of_the_hub_is_found_where_it_was_downloaded(whisper, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--org--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots").mkdir()
    whisper.rename(repository / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    convert("org/small", tmp_path / "echo")
    assert (tmp_path / "echo" / "model.safetensors").exists()
    with pytest.raises(EchoError, match="org/other: is neither a folder nor a model of the hub"):
        convert("org/other", tmp_path / "other")


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's account of memory")
@pytest.mark.parametrize(
    ("dtype", "asked"), [("float32", None), ("float16", "float32"), ("float32", "float16")]
)
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
def test_memory_holds_the_weights_once(tmp_path, dtype, asked, pickled):
    model = WhisperForConditionalGeneration(
        WhisperConfig(**{**SIZES, "d_model": 384, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192})
    ).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "whisper", max_shard_size="10MB")
    if pickled:
        for path in (tmp_path / "whisper").glob("model*"):
            path.unlink()
        torch.save(model.state_dict(), tmp_path / "whisper" / "pytorch_model.bin")
    size = sum(p.numel() for p in model.parameters()) * 4  # the larger of the two
    del model
    convert(tmp_path / "whisper", tmp_path / "first", dtype=asked)  # what is loaded once, is
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held now
    before = memory("VmHWM")
    convert(tmp_path / "whisper", tmp_path / "echo", dtype=asked)
    assert size > 60e6
    # Twice would be 2; gaps in the heap take up to 0.4.
    assert memory("VmHWM") - before < 1.6 * size


def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


WRONG = {
    "of something else": ("train.seed=1", "unknown setting 'train'"),
    "no mapping": ("attention=adaptive", "attention is 'adaptive', not a mapping"),
    "an unknown field": ("attention.max_spam=3", "attention.encoder: unknown key 'max_spam'"),
    "a form without its stack": ("attention.form=hybrid", "write attention.encoder=hybrid"),
    "an unknown form": (
        "attention.decoder=wide",
        "attention.decoder: form is 'wide', but must be one of",
    ),
    "another length": ("attention.encoder=[plain]", "lists 1 blocks, but there are 2 layers"),
    "a gain": ("attention.local_gain=0.5", "local_gain, which is for models trained from scratch"),
    "a stride": ("attention.global_stride=4", "global_stride, with which a block cannot begin"),
}


@pytest.mark.parametrize(("setting", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_setting_that_whisper_cannot_begin_with_is_refused(whisper, tmp_path, setting, message):
    with pytest.raises(EchoError, match=message):
        convert(whisper, tmp_path / "echo", [setting])
    assert not (tmp_path / "echo").exists()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_of_a_conversion_what_it_is_of_a_run(preset):
    wanted = load_config("configs/train.yaml", [str(preset)]).model.attention
    if isinstance(wanted["encoder"], dict):
        # From scratch, rotary positions stay whatever the form; no Whisper begins with them.
        assert wanted["encoder"].pop("rotary_base") == 10000
    assert read_attention([str(preset)]) == wanted
    changed = read_attention(
        [str(preset), "attention.decoder=plain", "model.attention.encoder=hybrid"]
    )
    assert changed == {"encoder": "hybrid", "decoder": "plain"}
    with pytest.raises(EchoError, match="unknown setting 'heads'"):
        read_attention([str(preset), "model.heads=2"])


def test_a_model_is_made_of_a_preset(whisper, tmp_path):
    convert(whisper, tmp_path / "echo", ["configs/attention/focus_refiner.yaml"])
    echo = EchoForConditionalGeneration.from_pretrained(tmp_path / "echo")
    assert {block.form for block in echo.config.encoder_attention()} == {"focus"}
    assert logits(tmp_path / "echo").shape == logits(whisper).shape
    with pytest.raises(EchoError, match="global_stride, with which a block cannot begin"):
        convert(whisper, tmp_path / "long", ["configs/attention/adaptive_long.yaml"])


def test_a_field_needs_an_adaptive_block(whisper, tmp_path):
    with pytest.raises(EchoError, match=r"attention\.max_span is for adaptive blocks"):
        convert(whisper, tmp_path / "echo", ["attention.encoder=hybrid", "attention.max_span=7"])


def test_a_field_that_every_block_has_already_is_refused(whisper, tmp_path):
    blocks = "attention.encoder=[{max_span: 5}, hybrid]"
    with pytest.raises(EchoError, match=r"attention\.max_span has no effect, because every adapti"):
        convert(whisper, tmp_path / "echo", [blocks, "attention.max_span=7"])
    assert not (tmp_path / "echo").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PLAIN[1:], "cannot become a Whisper, because block 0 of its encoder is adaptive"),
        (
            [*PLAIN[:1], "attention.decoder=[plain, hybrid]"],
            "because block 1 of its decoder is hybrid, not plain",
        ),
    ],
)
def test_only_plain_blocks_become_whisper(whisper, tmp_path, settings, message):
    convert(whisper, tmp_path / "echo", settings)
    with pytest.raises(EchoError, match=message):
        convert(tmp_path / "echo", tmp_path / "back")


def test_what_whisper_lacks_is_not_lost_on_the_way_back(whisper, tmp_path):
    convert(whisper, tmp_path / "echo", PLAIN)
    with pytest.raises(EchoError, match=r"which has no attention\.max_span=7"):
        convert(tmp_path / "echo", tmp_path / "back", ["attention.max_span=7"])
    edit("config.json", cross_positions=True)(tmp_path / "echo")
    with pytest.raises(EchoError, match="cannot become a Whisper, because it has cross_positions"):
        convert(tmp_path / "echo", tmp_path / "back")


def test_a_ctc_head_stays_behind_on_the_way_back(whisper, tmp_path, caplog):
    """Its tokens may be its own, and it may hear all layers."""
    convert(whisper, tmp_path / "echo", PLAIN)
    vocabulary = {"kind": "characters", "size": None, "vocab": {"a": 0, "<|pad|>": 1}, "merges": []}
    own = {"ctc": True, "ctc_vocabulary": vocabulary, "ctc_layers": "mean"}
    edit("config.json", **own)(tmp_path / "echo")
    head = ctc_head(EchoConfig(**{**SIZES, **own})).state_dict()
    edit_weights(lambda tensors: tensors.update({f"ctc_head.{k}": v for k, v in head.items()}))(
        tmp_path / "echo"
    )
    convert(tmp_path / "echo", tmp_path / "back")
    assert "its CTC head stays behind" in caplog.text
    same(weights(tmp_path / "back"), weights(whisper))
    assert "ctc" not in json.loads((tmp_path / "back" / "config.json").read_text())


def test_an_output_that_cannot_be_written_is_one_sentence(whisper, tmp_path, monkeypatch):
    with pytest.raises(EchoError, match="whisper: exists, and is not an empty folder"):
        convert(whisper, whisper)
    with pytest.raises(EchoError, match=r"config\.json/echo: cannot be written"):
        convert(whisper, whisper / "config.json" / "echo")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("echo.checkpoints.stored.save_file", full)
    with pytest.raises(EchoError, match=r"echo: cannot be written .*No space left on device"):
        convert(whisper, tmp_path / "echo")
    assert [path.name for path in tmp_path.iterdir()] == ["whisper"]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["echo-asr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    output = capsys.readouterr()
    return stopped.value.code, output.out, output.err


@pytest.mark.parametrize(
    ("count", "wanted", "kept"),
    [
        (4, 2, [0, 3]),
        (4, None, [0, 1, 2, 3]),
        (4, 4, [0, 1, 2, 3]),
        (4, 1, [3]),
        (6, 3, [0, 2, 5]),
        (32, 4, [0, 10, 20, 31]),
    ],
)
def test_layers_are_kept_evenly_spaced_with_the_first_and_the_last(count, wanted, kept):
    assert kept_layers(count, wanted, "decoder") == kept


@pytest.mark.parametrize("settings", [[], ["attention.encoder=adaptive"]])
def test_a_student_has_some_of_its_teachers_layers(tmp_path, settings):
    """It is what the teacher is without the others."""
    teacher = small_whisper(encoder_layers=3, decoder_layers=4)
    folder = save_whisper(teacher, tmp_path / "teacher")
    heads = [[0, 1], [1, 2], [3, 0], [3, 3]]
    edit("generation_config.json", alignment_heads=heads)(folder)
    layers = {"encoder": 2, "decoder": 2}
    config = convert(folder, tmp_path / "student", settings, layers=layers)
    assert (config.encoder_layers, config.decoder_layers, config.num_hidden_layers) == (2, 2, 2)
    for stack, left_out in ((teacher.model.encoder, [1]), (teacher.model.decoder, [1, 2])):
        for index in reversed(left_out):
            del stack.layers[index]
    save_whisper(teacher, tmp_path / "cut")
    edit("config.json", encoder_layers=2, decoder_layers=2)(tmp_path / "cut")
    found = logits(tmp_path / "student")
    torch.testing.assert_close(found, logits(tmp_path / "cut"), rtol=0, atol=1e-4)
    generation = load_model(tmp_path / "student").model.generation_config
    assert generation.alignment_heads == [[0, 1], [1, 0], [1, 3]]


def test_without_a_timing_head_all_of_the_upper_half_time_words(tmp_path):
    folder = save_whisper(small_whisper(decoder_layers=4), tmp_path / "teacher")
    edit("generation_config.json", alignment_heads=[[1, 2]])(folder)
    convert(folder, tmp_path / "student", layers={"decoder": 2})
    heads = load_model(tmp_path / "student").model.generation_config.alignment_heads
    assert heads == [[1, head] for head in range(4)]


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_student_has_no_more_layers_than_its_teacher(whisper, tmp_path, stack):
    for wanted in (0, 3):
        with pytest.raises(EchoError, match=f"{stack} layers to keep are {wanted}, .* from 1 to 2"):
            convert(whisper, tmp_path / "out", layers={stack: wanted})
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(whisper, tmp_path, monkeypatch, capsys):
    echo = tmp_path / "echo"
    code, out, _ = run(
        monkeypatch, capsys, "convert", whisper, echo, "attention.max_span=9", "--dtype", "float16"
    )
    assert code == 0
    assert str(echo) in out
    config = json.loads((echo / "config.json").read_text())
    assert config["attention"] == {"encoder": {"form": "adaptive", "max_span": 9}}
    assert config["dtype"] == "float16"
    for arguments, message in (
        (("nowhere", tmp_path / "x"), "nowhere: is neither a folder nor a model of the hub"),
        ((whisper, echo), "exists, and is not an empty folder"),
        ((whisper, tmp_path / "x", "--dtype", "int8"), "dtype is 'int8', but must be one of"),
    ):
        code, _, err = run(monkeypatch, capsys, "convert", *arguments)
        assert code == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_run_is_converted_by_its_checkpoint(shared, tmp_path):
    plain = {"encoder": "plain", "decoder": "plain"}
    config = tiny(
        shared, model={"attention": plain}, loss={"ctc_weight": 0}, train={"eval_every": 3}
    )
    start_run(config, tmp_path / "run")
    for which in ("best", "last"):
        convert(tmp_path / "run", tmp_path / which, which=which)
        found = WhisperForConditionalGeneration.from_pretrained(tmp_path / which).state_dict()
        expected = load_model(str(tmp_path / "run"), which).model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
