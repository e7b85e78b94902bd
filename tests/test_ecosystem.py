"""Echo's models where Hugging Face's libraries load, adapt and run them."""

import subprocess
import sys

import jiwer
import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from datasets import Dataset
from torch.ao.quantization import quantize_dynamic
from transformers import (
    AutoModelForSpeechSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    pipeline,
)

from echo.attention.base import FocusedAttention
from echo.checkpoints.convert import convert
from echo.data.audio import AudioFile
from echo.model.config import EchoConfig
from echo.model.geometry import SAMPLE_RATE
from echo.model.model import EchoForConditionalGeneration
from tests.model.test_model import ATTENTIONS
from tests.model.test_model import SIZES as MODEL_SIZES
from tests.small_whisper import save_whisper, small_whisper

LOADS = """
config = AutoConfig.from_pretrained(folder)
model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
transcribe = pipeline("automatic-speech-recognition", model=folder)
print(type(config).__name__, type(model).__name__, transcribe.type)
"""
IMPORTS = {
    "echo first": "import echo\nfrom transformers import *",
    "transformers first": "from transformers import AutoConfig, AutoModelForSpeechSeq2Seq\n"
    "from transformers import pipeline\nimport echo",
    "transformers unused before": "import transformers, echo\nfrom transformers import *",
    "Echo's code first": "import echo.model.model\nfrom transformers import *",
}


@pytest.fixture
def folder(tmp_path):
    """An Echo model, focused in encoder and decoder."""
    whisper = save_whisper(small_whisper(), tmp_path / "whisper")
    convert(whisper, tmp_path / "echo", ["attention.decoder=adaptive"])
    return tmp_path / "echo"


def python(code, *arguments):
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS.keys())
def test_importing_echo_is_enough(folder, imports):
    imports = imports.replace("import *", "import AutoConfig, AutoModelForSpeechSeq2Seq, pipeline")
    found = python(f"import sys\n{imports}\nfolder = sys.argv[1]{LOADS}", folder)
    assert found == "EchoConfig EchoForConditionalGeneration seq2seq_whisper"


def test_importing_echo_imports_nothing_heavy():
    loaded = python("import echo, sys; print(*sys.modules)").split()
    assert not {"torch", "transformers", "numpy", "echo.model"} & set(loaded)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear"], ids=["two", "all"])
def test_adapters_of_peft_are_trained_saved_loaded_and_merged(folder, tmp_path, targets):
    peft = pytest.importorskip("peft")
    base = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    settings = peft.LoraConfig(r=2, target_modules=targets)
    model = peft.get_peft_model(base, settings)
    features = torch.randn(2, 80, 100)
    batch = {"input_features": features, "labels": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    before = model(**batch).loss
    for _ in range(2):  # the adapters' first halves learn from the second step on
        model(**batch).loss.backward()
        optimiser.step()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    assert model.eval()(**batch).loss < before
    model.save_pretrained(tmp_path / "adapters")
    loaded = peft.PeftModel.from_pretrained(
        AutoModelForSpeechSeq2Seq.from_pretrained(folder), tmp_path / "adapters"
    ).eval()
    with torch.no_grad():
        expected = model(**batch).logits
        torch.testing.assert_close(loaded(**batch).logits, expected)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-4, atol=1e-3)
    options = {"max_new_tokens": 5, "do_sample": False, "language": None, "task": None}
    found = [m.generate(input_features=features, **options) for m in (model, merged)]
    assert torch.equal(*found)


def awake_model(attention):
    """Spans are not near to where a hard window grows, so that small errors remain small."""
    torch.manual_seed(0)
    config = EchoConfig(**MODEL_SIZES, attention=attention, ctc=True, cross_positions=True)
    model = EchoForConditionalGeneration(config).eval()
    for module in model.modules():
        if isinstance(module, FocusedAttention):
            torch.nn.init.constant_(module.span_predictor.linear.bias, 0.1)
    return model


def logits(model):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 80, 150, generator=generator)
    mask = (torch.arange(150) < torch.tensor([[150], [101]])).long()
    with torch.no_grad():
        return model(features, mask, torch.arange(3, 17).view(2, 7)).logits


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_every_linear_layer_may_be_quantised(attention):
    model = awake_model(attention)
    expected = logits(model)
    quantised = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    for block in quantised.modules():
        if isinstance(block, FocusedAttention):
            assert type(block.span_predictor.linear) is not torch.nn.Linear
    error = (logits(quantised) - expected).norm() / expected.norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_torchao_quantises_weights(attention):
    torchao = pytest.importorskip("torchao.quantization", reason="needs torchao")
    model = awake_model(attention)
    expected = logits(model)
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    for block in model.modules():
        if isinstance(block, FocusedAttention):
            assert "Int8" in type(block.span_predictor.linear.weight).__name__
    error = (logits(model) - expected).norm() / expected.norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize("attention", ["plain", "hybrid", "adaptive", "focus, refined", "rotary"])
@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_weights_may_lie_elsewhere_until_they_are_needed(attention, place, tmp_path):
    model = awake_model(ATTENTIONS[attention])
    expected = logits(model)
    if place == "disk":
        disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    else:
        cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.proj_out.weight.device.type == "meta"
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)


RECIPE = {
    "max_steps": 4,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 3,
    "gradient_checkpointing": True,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_steps": 2,
    "logging_steps": 1,
    "predict_with_generate": True,
    "generation_max_length": 8,
    "load_best_model_at_end": True,
    "metric_for_best_model": "wer",
    "greater_is_better": False,
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 0,
}


def random_rows():
    """Six, with features of 2 s."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(6, 80, 200, generator=generator)
    labels = [[1, 9, 4, 7], [1, 8, 3], [1, 5, 5, 6, 7], [1, 4, 9], [1, 7], [1, 3, 8, 8]]
    return [
        {"input_features": heard.numpy(), "labels": said}
        for heard, said in zip(features, labels, strict=True)
    ]


def numbers(ids):
    """Stands for a tokenizer: each token as a word."""
    return " ".join(map(str, ids[ids > 0]))


def finetune(model, folder, rows, text=numbers, **changes):
    """The usual recipe for a Whisper, in a few steps.

    Returns:
        Its losses and WERs in their order, and the WER of the model that it loads at the end.
    """
    data = Dataset.from_list(rows).with_format("torch")

    def collate(examples):
        padded = torch.nn.utils.rnn.pad_sequence(
            [example["labels"] for example in examples], batch_first=True, padding_value=-100
        )
        heard = torch.stack([example["input_features"] for example in examples])
        return {"input_features": heard, "labels": padded}

    def word_errors(found):
        said, heard = ([text(row) for row in rows] for rows in (found.label_ids, found.predictions))
        return {"wer": jiwer.wer(said, [words or "0" for words in heard])}

    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(**{**RECIPE, "output_dir": str(folder), **changes}),
        train_dataset=data,
        eval_dataset=data,
        data_collator=collate,
        compute_metrics=word_errors,
    )
    trainer.train()
    keys = ("loss", "eval_loss", "eval_wer")
    log = [(key, entry[key]) for entry in trainer.state.log_history for key in keys if key in entry]
    assert trainer.state.best_model_checkpoint
    return log, trainer.evaluate()["eval_wer"]


@pytest.mark.slow
def test_the_trainer_trains_an_echo_as_it_trains_a_whisper(tmp_path):
    sizes = {**MODEL_SIZES, "max_source_positions": 100, "init_std": 0.2}
    torch.manual_seed(0)
    whisper = WhisperForConditionalGeneration(WhisperConfig(**sizes))
    plain = EchoForConditionalGeneration(EchoConfig(**sizes, attention=ATTENTIONS["plain"]))
    plain.load_state_dict(whisper.state_dict())
    expected, best = finetune(whisper, tmp_path / "whisper", random_rows())
    found, best_found = finetune(plain, tmp_path / "plain", random_rows())
    assert [key for key, _ in found] == [key for key, _ in expected]
    assert [key for key, _ in found].count("eval_wer") == 2
    assert [x for _, x in found] == pytest.approx([x for _, x in expected], rel=1e-3)
    assert best_found == pytest.approx(best)

    adaptive = EchoForConditionalGeneration(EchoConfig(**sizes, attention=ATTENTIONS["adaptive"]))
    log, best = finetune(adaptive, tmp_path / "adaptive", random_rows())
    assert [key for key, _ in log] == [key for key, _ in expected]
    assert best == min(x for key, x in log if key == "eval_wer")


@pytest.fixture(scope="module")
def long_recording(shared):
    """Utterances of one speaker, one after the other, until Whisper's 30 s do not hold them."""
    parts: list[np.ndarray] = []
    for path in sorted((shared / "data" / "librispeech" / "dev").glob("*.opus")):
        parts.append(AudioFile(path).load().numpy())
        if sum(map(len, parts)) > 33 * SAMPLE_RATE:
            break
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def upcycled(shared, tmp_path_factory):
    """Whisper's folder, and the same model as Echo's."""
    whisper = shared / "models" / "whisper-tiny.en"
    echo = tmp_path_factory.mktemp("upcycled") / "echo"
    convert(whisper, echo)
    return whisper, echo


@pytest.mark.slow
def test_the_trainer_fine_tunes_an_upcycled_whisper_on_windows_of_30_s(shared, upcycled, tmp_path):
    """It begins where the Whisper does, and learns the new way of writing numbers."""
    processor = WhisperProcessor.from_pretrained(upcycled[0])
    names = ["six", "four"]
    folder = shared / "data" / "fsdd" / "recordings"
    audio = [AudioFile(folder / f"{digit}_jackson_7.wav").load().numpy() for digit in (6, 4)]
    features = processor(audio, sampling_rate=SAMPLE_RATE).input_features
    assert features.shape == (2, 80, 3000)
    # The model puts the start of transcript before the labels itself.
    said = [processor.tokenizer(f" {name} times {name}").input_ids[1:] for name in names]
    rows = [
        {"input_features": heard, "labels": ids} for heard, ids in zip(features, said, strict=True)
    ]

    def text(ids):
        return processor.tokenizer.decode(
            np.where(ids < 0, processor.tokenizer.pad_token_id, ids), skip_special_tokens=True
        ).strip()

    models = [
        AutoModelForSpeechSeq2Seq.from_pretrained(path, dtype=torch.float32) for path in upcycled
    ]
    assert isinstance(models[1], EchoForConditionalGeneration)
    assert not all(block.is_plain for block in models[1].config.encoder_attention())
    first_step = {"max_steps": 1, "eval_steps": 1, "save_steps": 1}
    (expected, _), (found, best) = (
        finetune(
            model,
            tmp_path / type(model).__name__,
            rows,
            text,
            per_device_train_batch_size=1,
            learning_rate=1e-4,
            generation_max_length=12,
            **steps,
        )
        for model, steps in zip(models, (first_step, {}), strict=True)
    )
    assert [key for key, _ in expected] == ["loss", "eval_loss", "eval_wer"]
    assert [key for key, _ in found] == ["loss", "loss", "eval_loss", "eval_wer"] * 2
    assert found[0][1] == pytest.approx(expected[0][1], rel=1e-3)
    losses = [value for key, value in found if key == "eval_loss"]
    wers = [value for key, value in found if key == "eval_wer"]
    assert len(losses) == len(wers) == 2
    assert losses[1] < losses[0] < found[0][1]
    assert best == min(wers) < 1


@pytest.mark.slow
@pytest.mark.parametrize(("chunks", "timestamps"), [(30, "word"), (0, True)])
def test_the_pipeline_gives_whispers_output_for_long_audio(
    upcycled, long_recording, chunks, timestamps
):
    # In the checkpoint's float16, the two round otherwise, and words that are nearly as good as
    # each other may swap.
    whisper, echo = (
        pipeline("automatic-speech-recognition", model=str(folder), dtype=torch.float32)(
            long_recording.copy(), chunk_length_s=chunks, return_timestamps=timestamps
        )
        for folder in upcycled
    )
    assert len(whisper["text"].split()) > 60
    assert echo == whisper
    if timestamps:
        assert max(chunk["timestamp"][0] for chunk in echo["chunks"]) > 30
