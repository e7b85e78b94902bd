"""The filter finds planted faults, gives its reasons, and measures each row once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch

from echo.data.audio import AudioArray
from echo.data.mixing import resampler
from echo.data.prepare.filter import measures
from echo.data.prepare.filter.filter import Filtered, filter_source
from echo.data.prepare.filter.rules import FilterSettings, Heard
from echo.data.prepare.filter.sound import measure_sound
from echo.data.prepare.filter.wording import measure_text
from echo.data.sources import Columns, ReadOptions, read_source
from echo.support.errors import ConfigError, DataError, EchoError
from echo.support.settings import build_with_overrides
from tests.data.recordings import write, write_manifest

OUTSIDE = ReadOptions(allow_outside=True)
TEXT = "every measure pursued by the commons was"


def speech(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise whose level changes by syllables, so that every seed sounds different."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.uniform(0.02, 1.0, round(seconds * 10)), 1_600)
    levels[:1_600] = 0.001
    return 0.1 * levels * rng.standard_normal(len(levels)).clip(-3, 3)


def filtered(
    folder: Path, rows: list[dict[str, Any]], *overrides: str, out: str = "out", **options: Any
) -> Filtered:
    """Filters rows, those without a recording with one of their own."""
    for number, row in enumerate(rows):
        row.setdefault("text", f"{TEXT} {chr(97 + number)}")
        if "audio_filepath" not in row:
            row["audio_filepath"] = f"own{number}.wav"
            write(folder / row["audio_filepath"], speech(seed=number))
    spec = write_manifest(folder / "rows.jsonl", *rows)
    settings = build_with_overrides(FilterSettings, {}, "command line", overrides)
    return filter_source(spec, ReadOptions(), settings, folder / out, **options)


def rules(found: Filtered) -> dict[int, list[str]]:
    return {i: [reason.rule for reason in reasons] for i, reasons in found.reasons.items()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_fault_of_a_recording_is_found(tmp_path: Path) -> None:
    clean = speech()
    narrow = torch.tensor(clean, dtype=torch.float32)
    narrow = resampler(8_000, 16_000)(resampler(16_000, 8_000)(narrow))
    noise = np.random.default_rng(1).standard_normal(len(clean))
    made = {
        "too short": clean[1_500:2_500],
        "too long": speech(31),
        "no voice": np.zeros(16_000),
        "quiet": clean / 1_000,
        "noisy": clean + 0.3 * noise,
        "clipped": (20 * clean).clip(-0.5, 0.5),
        "bandwidth": narrow.numpy(),
        "opposite channels": np.stack([clean, -clean], 1),
    }
    rows = []
    for number, (rule, samples) in enumerate(made.items()):
        name = f"{rule}.wav"
        soundfile.write(tmp_path / name, samples, 16_000, subtype="FLOAT")
        rows.append({"audio_filepath": name, "text": f"{TEXT} {chr(97 + number)}"})
    found = filtered(tmp_path, [*rows, {}])
    for number, rule in enumerate(made):
        assert rule in rules(found)[number]
    assert len(made) not in found.reasons


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("thanks for watching", "stock phrase"),
        ("and that was it. Thank you for watching!", "stock phrase"),
        ("Subtitles by the Amara.org community", "stock phrase"),
        ("it was he it was he", "loop"),
        ("ありがとうございましたありがとうございました", "loop"),
        ("еверы меасуре пурсуед", "script"),
        ("the pаst is a foreign country", "damaged text"),  # with a Cyrillic letter
        ("cafÃ© au lait for everybody", "damaged text"),
        ("well <i>this</i> is it", "damaged text"),
        ("tea &amp; coffee for us", "damaged text"),
        ("a bad \ufffd letter", "damaged text"),
        ("das ist ein ganz gewöhnlicher deutscher Satz ohne Sinn", "language"),
    ],
)
def test_every_fault_of_a_text_is_found(tmp_path: Path, text: str, rule: str) -> None:
    found = filtered(tmp_path, [{"text": text}, *({} for _ in range(5))])
    assert rule in rules(found)[0]
    assert list(found.reasons) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "no no no he said to them all",
        "the thanks for watching it were few",
        "naïve façade, über alles",
    ],
)
def test_what_people_say_is_kept(tmp_path: Path, text: str) -> None:
    assert filtered(tmp_path, [{"text": text}, {}, {}]).reasons == {}


def test_a_copy_is_found_in_another_codec_at_another_level(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", speech(3, seed=1))
    write(tmp_path / "b.ogg", 0.4 * speech(3, seed=1))
    write(tmp_path / "c.wav", speech(3, seed=2))
    rows = [{"audio_filepath": name} for name in ("a.wav", "b.ogg", "c.wav")]
    found = filtered(tmp_path, rows)
    assert rules(found) == {1: ["same sound"]}
    assert f"{tmp_path / 'rows.jsonl'}:1" in found.reasons[1][0].what


def test_the_copy_of_a_rejected_row_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", speech(3, seed=1))
    row = {"audio_filepath": "a.wav"}
    found = filtered(tmp_path, [row | {"text": "thanks for watching"}, dict(row), dict(row)])
    assert rules(found) == {0: ["stock phrase"], 2: ["same sound"]}


def test_a_speaker_says_a_long_text_once(tmp_path: Path) -> None:
    said = [("a", TEXT), ("b", TEXT), ("a", f"{TEXT}."), ("a", "stop"), ("a", "stop")]
    found = filtered(tmp_path, [{"speaker": s, "text": t} for s, t in said])
    assert rules(found) == {2: ["same text"]}


def test_rates_are_compared_with_the_speakers_own(tmp_path: Path) -> None:
    """Of two speakers, one fast and one slow, each in the other's way would stand out."""
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]
    rows = []
    for i in range(40):
        speaker, length = ("fast", 12) if i % 2 else ("slow", 4)
        rows.append({"speaker": speaker, "text": " ".join([words[i], *words[i + 1 : i + length]])})
    rows[0]["text"] = " ".join(words[:12])
    assert rules(filtered(tmp_path, rows, "other_language=null")) == {0: ["rate"]}


def test_writes_manifests_that_can_be_read(tmp_path: Path) -> None:
    write(tmp_path / "long.wav", speech(4))
    part = {"audio_filepath": "long.wav", "offset": 1.5, "duration": 1.25, "id": "part"}
    rows = [part | {"speaker": "x", "take": 3}, {"text": "thanks for watching"}, {"text": None}]
    found = filtered(tmp_path, rows)
    out = tmp_path / "out"
    (kept,) = read_source(str(out / "kept.jsonl"), OUTSIDE)
    original = read_source(str(tmp_path / "rows.jsonl"), ReadOptions(on_error="skip"))[0]
    assert torch.equal(kept.audio.load(), original.audio.load())
    assert (kept.id, kept.text, kept.duration) == ("part", original.text, 1.25)
    assert (kept.speaker, kept.extra["take"]) == ("x", 3)
    rejected = lines(out / "rejected.jsonl")
    assert rejected[0]["reasons"][0] == {
        "rule": "stock phrase",
        "figure": "thanks for watching",
        "what": "holds 'thanks for watching', as subtitles do",
    }
    assert rejected[1]["reasons"][0]["rule"] == "unusable"
    assert len(found.unusable) == 1
    assert "1 rows cannot be used" in found.to_text()


def test_without_a_usable_row_no_result_is_in_the_way(tmp_path: Path) -> None:
    """As where recordings lie outside, and that was not allowed."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    write(tmp_path / "one.wav", speech())
    spec = write_manifest(data / "rows.jsonl", {"audio_filepath": "../one.wav", "text": TEXT})
    with pytest.raises(DataError, match=r"none of its 1 rows can be used; .*--allow-outside"):
        filter_source(spec, ReadOptions(), FilterSettings(), out)
    found = filter_source(spec, OUTSIDE, FilterSettings(), out)
    assert len(found.kept()) == len(lines(out / "kept.jsonl")) == 1


def test_rows_of_one_id_keep_their_recordings_and_the_named_text(tmp_path: Path) -> None:
    contents = [
        write(tmp_path / f"{seed}.wav", speech(seed=seed)).read_bytes() for seed in range(2)
    ]
    texts = [f"{TEXT} {letter}" for letter in "ab"]
    rows = [
        {
            "id": "same",
            "audio": {"bytes": content, "path": None},
            "audio_filepath": "no",
            "text": "no",
            "said": text,
        }
        for content, text in zip(contents, texts, strict=True)
    ]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    options = ReadOptions(columns=Columns(audio="audio", text="said"))
    filter_source(str(tmp_path / "set"), options, FilterSettings(), tmp_path / "out")
    kept = read_source(str(tmp_path / "out/kept.jsonl"))
    assert [row.text for row in kept] == texts
    for seed, row in enumerate(kept):
        heard = row.audio.load().numpy()
        np.testing.assert_allclose(heard, speech(seed=seed), atol=1e-4)


def test_a_changed_threshold_measures_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [{}, {}, {}]
    assert filtered(tmp_path, rows, dry_run=True).reasons == {}
    monkeypatch.setattr(measures, "measure_sound", None)  # which calling would be an error
    again = filtered(tmp_path, rows, "min_seconds=2")
    assert rules(again) == {i: ["too short"] for i in range(3)}
    assert len(lines(tmp_path / "out/rejected.jsonl")) == 3


def test_a_result_is_not_written_over(tmp_path: Path) -> None:
    """Nor what it was made with; moved away, it makes room for another by the same measures."""
    rows: list[dict[str, Any]] = [{}, {}, {}]
    filtered(tmp_path, rows)
    out = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(EchoError, match=r"kept\.jsonl: is the result of an earlier filter"):
        filtered(tmp_path, rows, "min_seconds=2")
    assert rules(filtered(tmp_path, rows, "min_seconds=2", dry_run=True)) == {
        i: ["too short"] for i in range(3)
    }
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for name in ("kept.jsonl", "rejected.jsonl"):
        (out / name).rename(tmp_path / name)
    filtered(tmp_path, rows, "min_seconds=2")
    assert len(lines(out / "rejected.jsonl")) == 3


def test_what_was_stopped_goes_on(tmp_path: Path) -> None:
    """A torn last line is measured again, and what changed is."""
    rows: list[dict[str, Any]] = [{}, {}, {}]
    filtered(tmp_path, rows, dry_run=True)
    file = tmp_path / "out/measures.jsonl"
    whole = file.read_text()
    file.write_text(whole[: len(whole) - 100])
    filtered(tmp_path, rows, dry_run=True)
    assert file.read_text() == whole
    rows[0]["text"] = "another text"
    filtered(tmp_path, rows, dry_run=True)
    assert file.read_text().splitlines()[1:] == whole.splitlines()[1:]
    assert lines(file)[0]["text"]["characters"] == 11


def test_a_dry_run_keeps_measures_alone(tmp_path: Path) -> None:
    found = filtered(tmp_path, [{}, {}], "min_seconds=2", dry_run=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"measures.jsonl", "filter.json"}
    assert "too short" in found.to_text()


def test_a_folder_of_other_data_is_refused(tmp_path: Path) -> None:
    filtered(tmp_path, [{}])
    other = write_manifest(tmp_path / "other.jsonl", {"audio_filepath": "own0.wav", "text": "a"})
    with pytest.raises(EchoError, match="holds the measures of"):
        filter_source(other, ReadOptions(), FilterSettings(), tmp_path / "out")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["max_wer=0.3"], "max_wer has no effect without --model"),
        (["max_clipped=1"], "max_clipped=1 has no effect"),
        (["language=en", "other_language=null"], "language has no effect with other_language=null"),
        (["scripts=[LATIN]", "max_other_scripts=null"], "scripts has no effect"),
        (["min_seconds=4", "max_seconds=3"], "min_seconds is 4, more than max_seconds, 3"),
        (["max_rate_deviation=2"], "max_rate_deviation has no effect: no row"),
        (["opposite_channels=true"], "opposite_channels has no effect: no row"),
        (["max_secnds=4"], "did you mean max_seconds"),
    ],
)
def test_a_threshold_without_effect_is_an_error(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        filtered(tmp_path, [{}, {}], *overrides)


def test_a_model_hears_what_other_rules_keep(tmp_path: Path) -> None:
    asked = []

    def hear(rows: Any, wanted: Any) -> dict[int, Heard]:
        asked.append(list(wanted))
        good = Heard("as said", wer=0.1, start=0.0, end=0.0)
        return {1: replace(good, wer=0.9), 2: replace(good, end=0.8), 3: good}

    rows: list[dict[str, Any]] = [{"text": "thanks for watching"}, {}, {}, {}]
    found = filtered(tmp_path, rows, hear=hear)
    assert asked == [[1, 2, 3]]
    assert rules(found) == {0: ["stock phrase"], 1: ["wer"], 2: ["end"]}
    with pytest.raises(ConfigError, match="--model has no effect"):
        filtered(tmp_path, rows, "max_wer=null", "max_edge_cer=null", hear=hear)


def test_the_fingerprint_is_of_the_sound() -> None:
    def bits(samples: np.ndarray) -> np.ndarray:
        sound = measure_sound(AudioArray(samples.astype(np.float32), 16_000, "a"), "a")
        return np.unpackbits(np.frombuffer(bytes.fromhex(sound.fingerprint or ""), np.uint8))

    one, other = speech(3, seed=1), speech(3, seed=2)
    assert (bits(one) != bits(0.3 * one)).mean() < 0.02
    assert (bits(one) != bits(other)).mean() > 0.3


def test_measures_of_a_text() -> None:
    text = measure_text("Это русский текст, a few words.")
    assert text.scripts == {"CYRILLIC": 15, "LATIN": 9}
    assert (text.characters, text.words, text.damage) == (24, 6, None)
    empty = measure_text("")
    assert (empty.characters, empty.language, empty.stock, empty.repeated) == (0, None, None, 0)
