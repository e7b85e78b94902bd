"""Files in, text and subtitles out: with a real Whisper on real recordings where it says so."""

import json
import math
import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from echo.checkpoints.load import LoadedModel, load_model
from echo.config import RunConfig
from echo.data.audio import AudioFile
from echo.data.features import log_mel
from echo.data.utterance import Utterance
from echo.data.voice import loudness
from echo.evaluate.decodings import joint_weight
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError, DataError
from echo.support.settings import build
from echo.train.build import build_model, build_tokenizer
from echo.transcribe.formats import render_json
from echo.transcribe.transcribe import (
    Transcriber,
    TranscribeSettings,
    transcribe_files,
    transcribe_into,
)
from echo.transcribe.transcript import Transcript
from tests.data.recordings import tone, write
from tests.test_cli import run

SECONDS = 12


@pytest.fixture(scope="module")
def whisper(shared):
    return load_model(str(shared / "models/whisper-tiny.en"))


@pytest.fixture
def commons(shared):
    """Someone reads "every measure pursued by the commons", in 3 s."""
    return shared / "data/librispeech/dev/8226-274369-0000.opus"


def untrained(task_tokens=(), max_tokens=30):
    """A model of windows of 2 s, trained on nothing; with tokens of tasks, timestamps follow."""
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2}
    model = {**sizes, "max_seconds": 2, "max_tokens": max_tokens}
    settings = build(RunConfig, {"model": model}, "test")
    digits = [Utterance(word, AudioFile(None), word, 1.0) for word in ("one", "two", "three")]
    tokenizer = build_tokenizer(settings, digits)
    times = [f"<|{i / 50:.2f}|>" for i in range(101)] if task_tokens else []
    tokenizer.add_tokens([*task_tokens, *times], special_tokens=True)
    return LoadedModel(build_model(settings, tokenizer).eval(), tokenizer)


@pytest.fixture
def polyglot():
    """An untrained model of two languages, as Whisper has them."""
    names = ("<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|nospeech|>", "<|none|>")
    loaded = untrained(names)
    ids = dict(zip(names, loaded.tokenizer.convert_tokens_to_ids(list(names)), strict=True))
    known = {
        "is_multilingual": True,
        "lang_to_id": {name: ids[name] for name in names[:2]},
        "task_to_id": {name.strip("<|>"): ids[name] for name in names[2:4]},
        "no_timestamps_token_id": ids["<|none|>"],
        "alignment_heads": [[0, 0]],
    }
    for name, value in known.items():
        setattr(loaded.model.generation_config, name, value)
    return loaded


def transcribe(monkeypatch, capsys, shared, out, *arguments):
    model = shared / "models/whisper-tiny.en"
    code, _, err = run(
        monkeypatch, capsys, "transcribe", "--model", model, "--out", out, *arguments
    )
    return code, err


def room_noise(shared):
    """What is heard while nobody speaks: the quietest stretches of recordings, joined."""
    pauses = []
    for path in sorted((shared / "data/librispeech/dev").glob("8226-274369-00[1-4]?.opus")):
        samples = AudioFile(path).load()
        levels = loudness(samples)
        calm = torch.nn.functional.max_pool1d(levels[None], 15, 1)[0]
        begin = int(calm.argmin()) * 160
        pauses.append(samples[begin : begin + 16 * 160] * torch.hann_window(16 * 160))
    noise = torch.cat(pauses)
    return noise.repeat(math.ceil(SECONDS * SAMPLE_RATE / len(noise)))[: SECONDS * SAMPLE_RATE]


def melody():
    """Notes of three harmonics that fade, two a second."""
    time = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    pitches = 220 * 2 ** (torch.randint(12, (2 * SECONDS,)) / 12)
    notes = [
        sum(torch.sin(2 * math.pi * h * hertz * time) / h for h in (1, 2, 3)) for hertz in pitches
    ]
    return 0.2 * torch.cat([note * torch.exp(-4 * time) for note in notes])


def test_where_nobody_speaks_nothing_is_written(whisper, shared):
    """Each of them makes Whisper say "you", "Thank you" or more, when it is made to speak."""
    room = room_noise(shared)
    time = torch.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    recordings = {
        "digital silence": torch.zeros(SECONDS * SAMPLE_RATE),
        "a room": room,
        "a room, loud": 10 * room,
        "a room, then digital silence": torch.cat([room[: len(room) // 2], 0 * room]),
        "white noise": 0.1 * torch.randn(SECONDS * SAMPLE_RATE),
        "a chord": 0.1 * sum(torch.sin(2 * math.pi * f * time) for f in (220.0, 277.2, 329.6)),
        "a melody": melody(),
    }
    assert all(len(samples) >= SECONDS * SAMPLE_RATE for samples in recordings.values())
    transcriber = Transcriber(whisper, TranscribeSettings())
    found = transcriber.transcribe(list(recordings.values()), lambda seconds: None)
    heard = {name: t.text for name, t in zip(recordings, found, strict=True) if t.text}
    assert heard == {}


def test_speech_between_silence_is_found_where_it_is(whisper, commons):
    speech = AudioFile(commons).load()
    seconds = len(speech) / SAMPLE_RATE
    silence = torch.zeros(35 * SAMPLE_RATE)  # longer than a window
    recording = torch.cat([silence, speech, silence])
    transcriber = Transcriber(whisper, TranscribeSettings(words=True))
    reported = []
    (found,) = transcriber.transcribe([recording], reported.append)
    assert plain(found.text) == "every measure pursued by the commons"
    words = [word for segment in found.segments for word in segment.words]
    assert plain(" ".join(word.text for word in words)) == plain(found.text)
    assert all(word.start <= word.end for word in words)
    assert all(first.end <= second.start for first, second in pairwise(words))
    assert all(34.9 <= word.start <= word.end <= 35.1 + seconds for word in words)
    assert all(34.9 <= s.start < s.end <= 35.1 + seconds for s in found.segments)
    assert reported == sorted(reported)
    assert found.duration == len(recording) / SAMPLE_RATE


def test_confidence_is_the_probability_of_what_was_heard(whisper, commons):
    """As the model says when it is given its own text; and words are the parts of a segment."""
    speech = AudioFile(commons).load()
    transcriber = Transcriber(whisper, TranscribeSettings(words=True))
    clear, faint = transcriber.transcribe(
        [speech, speech + speech.std() * torch.randn_like(speech)], lambda seconds: None
    )
    assert clear.language == "en"
    (segment,) = clear.segments
    tokenizer, model = whisper.tokenizer, whisper.model
    text = tokenizer(f" {segment.text}", add_special_tokens=False).input_ids
    prompt = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    features = log_mel(F.pad(speech, (0, 30 * SAMPLE_RATE - len(speech))), 80)[None]
    with torch.no_grad():
        logits = model(features, decoder_input_ids=torch.tensor([[*prompt, *text]])).logits[0]
    said = logits[1:-1].log_softmax(-1)[torch.arange(len(text)), text]
    assert segment.confidence == pytest.approx(float(said.mean().exp()), abs=0.1)
    counts = [
        len(tokenizer(f" {w.text}", add_special_tokens=False).input_ids) for w in segment.words
    ]
    logs = [n * math.log(w.confidence) for n, w in zip(counts, segment.words, strict=True)]
    assert math.exp(sum(logs) / sum(counts)) == pytest.approx(segment.confidence, rel=1e-3)
    assert all(s.confidence < segment.confidence for s in faint.segments)


def test_a_segment_says_how_it_was_decoded(whisper, commons):
    """As OpenAI's Whisper computes it: the text is probable at once, there is speech in it, and it
    does not repeat itself."""
    speech = AudioFile(commons).load()
    transcriber = Transcriber(whisper, TranscribeSettings())
    (found,) = transcriber.transcribe([speech], lambda seconds: None)
    (segment,) = found.segments
    written = json.loads(render_json(found))["segments"][0]
    assert written["temperature"] == 0.0
    text = segment.text.encode()
    expected = len(text) / len(zlib.compress(text))
    assert written["compression_ratio"] == pytest.approx(expected, abs=1e-3)
    # The model is given the whole window, times and end, and asked how probable it is.
    tokenizer, model = whisper.tokenizer, whisper.model
    features = log_mel(F.pad(speech, (0, 30 * SAMPLE_RATE - len(speech))), 80)[None]
    mask = (torch.arange(3000) < len(speech) // 160).long()[None]
    with torch.no_grad():
        (ids,) = model.generate(features, attention_mask=mask, return_timestamps=True)
        start, end = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|endoftext|>"])
        times = [i for i in ids.tolist() if i > tokenizer.convert_tokens_to_ids("<|notimestamps|>")]
        body = tokenizer(f" {segment.text}", add_special_tokens=False).input_ids
        heard = [times[0], *body, times[-1], end]
        logits = model(features, decoder_input_ids=torch.tensor([[start, *heard]])).logits[0]
    said = logits.log_softmax(-1)[torch.arange(len(heard)), heard]
    # Some tokens may not be written, which makes the others more probable.
    assert 0 <= segment.decoding.avg_logprob - float(said.mean()) < 0.2
    quiet = logits[0].softmax(-1)[tokenizer.convert_tokens_to_ids("<|nocaptions|>")]
    assert segment.decoding.no_speech_prob == pytest.approx(float(quiet), abs=1e-3)


def test_the_probability_that_nobody_speaks_does_not_depend_on_beams(whisper, commons):
    """Also where the text is drawn at a temperature, which is done without beams."""
    speech = AudioFile(commons).load()
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for beams in (1, 3):
        transcriber = Transcriber(whisper, TranscribeSettings(beams=beams))
        (heard,) = transcriber.transcribe([speech + 2 * speech.std() * noise], lambda _: None)
        (segment,) = heard.segments
        assert segment.decoding.temperature > 0
        found.append(segment.decoding.no_speech_prob)
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def plain(text):
    return re.sub(r"[^a-z ]", "", text.lower()).strip()


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 2])
def test_a_batch_gives_what_each_gives_alone(whisper, commons, beams):
    """And what is faint and unlike the others does not lose its text to their silence."""
    speech = AudioFile(commons).load()
    recordings = [0.02 * torch.randn(4 * SAMPLE_RATE), speech, speech / 10]
    transcriber = Transcriber(whisper, TranscribeSettings(beams=beams, words=beams == 1))
    together = transcriber.transcribe(recordings, lambda seconds: None)
    alone = [transcriber.transcribe([r], lambda seconds: None)[0] for r in recordings]
    assert [t.text for t in together] == [t.text for t in alone]
    assert together[0].text == ""
    assert all(plain(t.text) == "every measure pursued by the commons" for t in together[1:])
    for both in zip(together, alone, strict=True):
        parts = [[(s, *(s.words or ())) for s in t.segments] for t in both]
        times, sure = (
            [[f(x) for segment in one for x in segment] for one in parts]
            for f in (lambda x: (x.start, x.end, x.text), lambda x: x.confidence)
        )
        assert times[0] == times[1]
        assert sure[0] == pytest.approx(sure[1], rel=1e-3)


def test_files_are_written_in_every_format_beside_what_cannot_be_read(
    monkeypatch, capsys, caplog, shared, tmp_path, commons
):
    """Two of one name and one of no speech, in a folder; one damaged half-way, one of a format that
    nothing here reads, and no audio."""
    folder = tmp_path / "in"
    for name in ("a/talk.wav", "b/talk.flac"):
        write(folder / name, AudioFile(commons).load().numpy())
    write(folder / "silence.ogg", tone() * 0)
    damaged = write(folder / "damaged.flac", torch.randn(5 * SAMPLE_RATE).numpy() / 10)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    (folder / "empty.wav").write_bytes(b"no audio")
    (folder / "memo.wma").write_bytes(bytes.fromhex("3026b2758e66cf11") + bytes(4096))
    (folder / "notes.txt").write_text("not to be transcribed")
    out = tmp_path / "out"
    code, err = transcribe(
        monkeypatch, capsys, shared, out, folder, "--format", "txt,srt,vtt,tsv,json", "--words"
    )
    assert code == 2
    assert f"{folder / 'memo.wma'}: cannot be read as audio" in caplog.text
    assert "3 of 6 recordings could not be transcribed" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert f"{folder / 'silence.ogg'}: no speech is found in it" in caplog.messages
    kinds = ("txt", "srt", "vtt", "tsv", "json")
    expected = {f"{name}.{kind}" for name in ("talk", "talk-2", "silence") for kind in kinds}
    assert {path.name for path in out.iterdir()} == expected
    for kind in kinds:
        assert (out / f"talk.{kind}").read_text() == (out / f"talk-2.{kind}").read_text()
    assert plain((out / "talk.txt").read_text()) == "every measure pursued by the commons"
    assert (out / "silence.txt").read_text() == ""
    (segment,) = json.loads((out / "talk.json").read_text())["segments"]
    assert [plain(word["text"]) for word in segment["words"]] == plain(segment["text"]).split()


def test_recordings_that_cannot_be_read_to_their_end_are_named(whisper, tmp_path, commons):
    paths = [write(tmp_path / f"{name}.mp3", tone(5)) for name in ("cut", "whole")]
    paths[0].write_bytes(paths[0].read_bytes()[: paths[0].stat().st_size // 2])
    found = dict(transcribe_files(whisper, [*map(AudioFile, paths)], TranscribeSettings()))
    assert re.fullmatch(
        r".*cut.mp3: only 2\.\d s of the recording can be decoded, because it is cut off .*",
        str(found[0]),
    )
    assert isinstance(found[1], Transcript)


def test_what_was_done_stays_when_writing_fails(monkeypatch, capsys, shared, tmp_path):
    """The longest is transcribed first."""
    for name, seconds in (("long", 3), ("short", 1)):
        write(tmp_path / f"{name}.wav", tone(seconds))
    out = tmp_path / "out"
    (out / "short.txt").mkdir(parents=True)
    paths = (tmp_path / "short.wav", tmp_path / "long.wav")
    code, err = transcribe(monkeypatch, capsys, shared, out, *paths)
    assert code == 2
    assert "short.txt: cannot be written" in err
    assert {path.name for path in out.iterdir()} == {"long.txt", "short.txt"}


REFUSALS = {
    "a missing file": (["gone.wav"], "gone.wav: no such recording"),
    "an empty folder": (["."], ".: holds no recordings"),
    "an unknown format": (["../a.wav", "--format", "srt,doc"], "unknown format 'doc'"),
    "words without json": (["../a.wav", "--words"], "times of words are written to json"),
    "lines without subtitles": (["../a.wav", "--max-line-width", "30"], "are for srt and vtt"),
    "a taken folder": (["../a.wav", "--out", "../a.wav"], "a.wav: is a file, but must be a folder"),
    "a language": (["../a.wav", "--language", "German"], "does not take the language 'German'"),
    "a task": (["../a.wav", "--task", "translate"], "cannot translate"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_wrong_is_said_before_anything_is_done(
    monkeypatch, capsys, shared, tmp_path, arguments, message
):
    write(tmp_path / "a.wav")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, err = transcribe(monkeypatch, capsys, shared.resolve(), "../out", *arguments)
    assert code == 2
    lines = [line for line in err.strip().splitlines() if "Loading weights" not in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_language_is_what_the_model_is_told_or_hears(polyglot, monkeypatch):
    monkeypatch.setattr(
        "echo.transcribe.transcribe.FALLBACK", {"temperature": (0.0,), "logprob_threshold": -100.0}
    )
    names = polyglot.tokenizer.convert_ids_to_tokens
    spoken = torch.randn(3 * SAMPLE_RATE) * torch.linspace(0, 1, 3 * SAMPLE_RATE)
    generate = polyglot.model.generate
    prompts = []

    def spy(*arguments, **options):
        found = generate(*arguments, **options)
        prompts.append(names(found["segments"][0][0]["result"]["sequences"][:3].tolist()))
        return found

    monkeypatch.setattr(polyglot.model, "generate", spy)
    for language, task in ((None, None), ("German", "translate"), ("de", "transcribe")):
        settings = TranscribeSettings(language=language, task=task)
        (found,) = Transcriber(polyglot, settings).transcribe([spoken], lambda seconds: None)
        assert found.language in ("en", "de") if language is None else found.language == "de"
    assert prompts[0][1] in ("<|en|>", "<|de|>")
    assert prompts[1] == ["<|startoftranscript|>", "<|de|>", "<|translate|>"]
    assert prompts[2] == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>"]
    with pytest.raises(ConfigError, match="knows no language 'Klingon'; it knows: en, de"):
        Transcriber(polyglot, TranscribeSettings(language="Klingon"))


def test_the_language_of_silence_is_what_is_known(polyglot):
    silence = [torch.zeros(SAMPLE_RATE)]
    for settings, expected in ((TranscribeSettings(language="German"), "de"), (None, None)):
        transcriber = Transcriber(polyglot, settings or TranscribeSettings())
        assert transcriber.transcribe(silence, lambda _: None)[0].language == expected
    polyglot.model.generation_config.is_multilingual = False
    transcriber = Transcriber(polyglot, TranscribeSettings())
    assert transcriber.transcribe(silence, lambda _: None)[0].language == "en"


def test_the_encoder_runs_once_for_a_window_and_once_to_hear_the_language(polyglot):
    """Not again for every temperature, nor for the probability that nobody speaks."""
    ran = []
    polyglot.model.model.encoder.register_forward_hook(lambda *_: ran.append(1))
    spoken = torch.randn(2 * SAMPLE_RATE) * torch.linspace(0, 1, 2 * SAMPLE_RATE)
    for settings, runs in (
        (TranscribeSettings(), 2),
        (TranscribeSettings(language="en", beams=2), 1),
    ):
        ran.clear()
        Transcriber(polyglot, settings).transcribe([spoken], lambda seconds: None)
        assert len(ran) == runs


@pytest.mark.parametrize(("seconds", "most"), [(0.64, 36), (1.9, 40 + 16)])
def test_a_model_that_never_ends_is_stopped_soon(monkeypatch, seconds, most):
    """By the time that a recording takes, or by its loop: at every temperature."""
    loaded = untrained(("<|nospeech|>", "<|none|>"), max_tokens=400)
    model, known = loaded.model, loaded.model.generation_config
    known.no_timestamps_token_id = loaded.tokenizer.convert_tokens_to_ids("<|none|>")
    known.is_multilingual = False
    prompts = []

    def forever(hidden):
        """The same letter for all time."""
        logits = torch.zeros(*hidden.shape[:-1], model.config.vocab_size)
        logits[..., 0] = 100.0
        prompts.append(hidden.shape[1])
        return logits

    monkeypatch.setattr(model.proj_out, "forward", forever)
    spoken = torch.randn(round(seconds * SAMPLE_RATE)) * torch.linspace(
        0, 1, round(seconds * SAMPLE_RATE)
    )
    (found,) = Transcriber(loaded, TranscribeSettings()).transcribe([spoken], lambda _: None)
    temperatures = 6
    assert len(prompts) <= temperatures * (most + 2)
    assert 0 < len(found.text) <= most


def test_a_model_without_timestamps_is_given_pieces_between_pauses(monkeypatch):
    loaded = untrained()
    assert loaded.model.config.ctc
    syllables = 0.2 + (torch.arange(5 * SAMPLE_RATE) % 4000) / 4000
    samples = syllables * torch.randn(5 * SAMPLE_RATE)
    samples[int(1.5 * SAMPLE_RATE) : int(1.9 * SAMPLE_RATE)] *= 0.01
    heard = []

    def decode_batch(loaded, batch, settings):
        assert joint_weight(settings, loaded.model.config) > 0
        heard.extend(batch.utterances)
        return [(f"piece at {u.extra['start']:.1f}", 0.5) for u in batch.utterances]

    monkeypatch.setattr("echo.transcribe.transcribe.decode_with_confidence", decode_batch)
    (found,) = Transcriber(loaded, TranscribeSettings()).transcribe([samples], lambda _: None)
    assert all(u.duration <= 2.0 for u in heard)
    assert found.segments[0].end == pytest.approx(1.7, abs=0.15)
    assert all(a.end <= b.start for a, b in pairwise(found.segments))
    assert all(s.text == f"piece at {s.start:.1f}" for s in found.segments)


def test_a_model_without_heads_that_time_words_is_refused():
    loaded = untrained()
    loaded.model.config.ctc = False
    with pytest.raises(ConfigError, match="cannot time words: it has no CTC head"):
        Transcriber(loaded, TranscribeSettings(words=True))


def test_an_untrained_model_transcribes_something_of_any_length():
    loaded = untrained()
    samples = (
        0.1 * torch.randn(7 * SAMPLE_RATE) * (1 + (torch.arange(7 * SAMPLE_RATE) % 9000) / 500)
    )
    (found,) = Transcriber(loaded, TranscribeSettings()).transcribe([samples], lambda _: None)
    assert found.duration == 7.0
    assert all(0 < segment.confidence <= 1 for segment in found.segments)
    assert all(0 <= s.start < s.end <= 7.0 for s in found.segments)


def test_channels_are_transcribed_apart(whisper, tmp_path, commons, caplog):
    """As if each were a recording; one that is not there is named, and the others are written."""
    speech = AudioFile(commons).load().numpy()
    call = write(tmp_path / "call.wav", np.stack([speech, 0 * speech], 1))
    mono = write(tmp_path / "mono.wav", speech)
    settings = TranscribeSettings()
    transcribe_into(tmp_path, whisper, [call], ["txt"], settings, channel="each")
    assert plain((tmp_path / "call.left.txt").read_text()) == "every measure pursued by the commons"
    assert (tmp_path / "call.right.txt").read_text() == ""
    with pytest.raises(DataError, match="1 of 2 channels could not be transcribed"):
        transcribe_into(tmp_path, whisper, [mono, call], ["txt"], settings, channel="right")
    assert "mono.wav: has 1 channel, so there is no channel right" in caplog.text
    assert (tmp_path / "call.txt").read_text() == ""
