"""The data check finds every planted flaw in one pass, and none in real data."""

from pathlib import Path

import datasets
import numpy as np

from echo.data.check import check_source, format_report
from tests.data.recordings import tone, write, write_manifest

NO_VOICE = "has a text and sound, but nothing in it rises like a voice"


def test_real_data_has_no_problems(shared: Path) -> None:
    report = check_source(str(shared / "data/librispeech/layout-sample"))
    assert not report.problems
    assert (report.rows, len(report.durations), len(report.speakers)) == (12, 12, 1)
    assert report.formats == {(16_000, 1): 12}
    text = format_report(report)
    assert "12 rows, 0.04 hours" in text
    assert "12 at 16000 Hz, 1 channel\n" in text
    assert text.endswith("problems: none")


def test_finds_every_flaw(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)

    def recording(seconds: float) -> np.ndarray:
        """Noise that rises and falls, as speech does."""
        samples = round(seconds * 16_000)
        level = 0.1 * (0.1 + np.arange(samples) // 400 % 2)
        return level * noise.standard_normal(samples)

    write(tmp_path / "good.wav", recording(1))
    write(tmp_path / "copy.wav", tone(1))
    write(tmp_path / "original.wav", tone(1))
    write(tmp_path / "short.wav", recording(0.05))
    write(tmp_path / "long.flac", recording(31))
    write(tmp_path / "silent.wav", np.zeros(16_000))
    write(tmp_path / "clipped.wav", 4 * tone(1, channels=2))
    (tmp_path / "noise.wav").write_bytes(b"noise")
    (tmp_path / "cut.flac").write_bytes((tmp_path / "long.flac").read_bytes()[:2_000])
    spec = write_manifest(
        tmp_path / "m.jsonl",
        {"audio_filepath": "good.wav", "text": "one two", "duration": 1.05, "speaker": "x"},
        {"audio_filepath": "original.wav", "text": "one"},
        {"audio_filepath": "copy.wav", "text": "one", "duration": 1.2, "id": "good.wav"},
        {"audio_filepath": "short.wav", "text": "b" * 1_800},
        {"audio_filepath": "long.flac", "text": "c", "duration": 31.3},
        {"audio_filepath": "silent.wav", "text": "d"},
        {"audio_filepath": "clipped.wav", "text": "e"},
        {"audio_filepath": "noise.wav", "text": "f", "duration": 1},
        {"audio_filepath": "cut.flac", "text": "g", "duration": 31},
        {"audio_filepath": "gone.wav", "text": "h"},
        {"audio_filepath": "good.wav", "text": None},
    )
    report = check_source(spec)
    problems = {
        kind: [finding.removeprefix(f"{spec}:") for finding in findings]
        for kind, findings in report.problems.items()
    }
    assert problems.pop("unusable rows") == [
        f"10: no recording 'gone.wav' in {str(tmp_path)!r}",
        "11: 'text' is missing",
    ]
    unreadable = problems.pop("unreadable recordings")
    assert [finding.split(":")[0] for finding in unreadable] == ["8", "9"]
    assert problems == {
        "wrong durations": ["3: lasts 1.00 s, not 1.20 s as given"],
        "repeated recordings": [f"3: has the same recording as {spec}:2"],
        "repeated ids": [f"3: has the same id as {spec}:1: 'good.wav'"],
        "too short": ["4: lasts 0.050 s, less than 0.1 s"],
        "long texts": ["4: has 1800 characters of text, more than 1792"],
        "too long": ["5: lasts 31.00 s, more than 30 s"],
        "silent": ["6: is digital silence"],
        "clipped": ["7: 66.5% of its samples are at full scale"],
        "no voice": [f"{row}: {NO_VOICE}" for row in (2, 3, 7)],
    }
    assert report.formats == {(16_000, 1): 6, (16_000, 2): 1}
    assert report.words["one"] == 3
    assert (
        not {"too long", "long texts"}
        & check_source(spec, max_seconds=None, max_chars=None).problems.keys()
    )
    text = format_report(report)
    assert "problems: 15\n" in text
    for findings in report.problems.values():
        for finding in findings:
            assert finding in text


def test_sound_without_a_voice_is_found(tmp_path: Path) -> None:
    """And channels that cancel each other, which Echo reads and other programs do not."""
    rng = np.random.default_rng(0)
    syllables = 0.1 * rng.standard_normal(32_000) * (np.arange(32_000) // 4_000 % 2)
    write(tmp_path / "opposite.wav", np.stack([syllables, -syllables], 1))
    write(tmp_path / "hiss.wav", 0.1 * rng.standard_normal(32_000))
    write(tmp_path / "pause.wav", 0.01 * rng.standard_normal(32_000))
    rows = [("opposite", "one two"), ("hiss", "one two"), ("pause", "")]
    spec = write_manifest(
        tmp_path / "m.jsonl",
        *({"audio_filepath": f"{name}.wav", "text": text} for name, text in rows),
    )
    assert check_source(spec).problems == {
        "opposite channels": [
            f"{spec}:1: has channels in opposite phase, which most programs mix to silence"
        ],
        "no voice": [f"{spec}:2: {NO_VOICE}"],
    }


def test_texts_that_look_quoted_are_found(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    texts = [
        '"all of it"',
        'every ""measure""',
        "'all of it'",
        'a "word" of it',
        '"begun',
        'the 12" single',
    ]
    rows = [{"audio_filepath": "a.wav", "text": text, "id": text} for text in texts]
    spec = write_manifest(tmp_path / "m.jsonl", *rows)
    found = check_source(spec).problems["quoted texts"]
    assert [finding.removeprefix(f"{spec}:")[0] for finding in found] == ["1", "2", "3"]


def test_a_row_has_all_of_its_problems_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "noise.wav").write_bytes(b"noise")
    spec = write_manifest(
        tmp_path / "m.jsonl",
        {"audio_filepath": "a.wav", "text": "one\na.wav,two", "id": "x"},
        "not JSON",
        {"audio_filepath": "noise.wav", "text": "b" * 1_800, "duration": 1, "id": "x"},
    )
    report = check_source(spec)
    assert {kind: len(findings) for kind, findings in report.problems.items()} == {
        "no voice": 1,
        "texts of several lines": 1,
        "unusable rows": 1,
        "long texts": 1,
        "repeated ids": 1,
        "unreadable recordings": 1,
    }


def test_histogram_counts_every_recording(tmp_path: Path) -> None:
    rows = []
    for index, seconds in enumerate((0.2, 0.6, 0.7, 2.5)):
        write(tmp_path / f"{index}.wav", tone(seconds))
        rows.append({"audio_filepath": f"{index}.wav", "text": "x"})
    text = format_report(check_source(write_manifest(tmp_path / "m.jsonl", *rows)))
    assert "seconds: 0.20 to 2.50, median 0.65" in text
    bars = [line.split() for line in text.splitlines() if " to " in line and "#" in line]
    assert [(bar[0], bar[2], bar[-1]) for bar in bars] == [
        ("0", "0.5", "1"),
        ("0.5", "1", "2"),
        ("2", "3", "1"),
    ]


def test_recordings_without_speech_are_counted_and_no_problem(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone() * (np.arange(16_000) > 8_000)[:, None])
    write(tmp_path / "b.wav", tone(2))
    rows = [{"audio_filepath": "a.wav", "text": "one"}, {"audio_filepath": "b.wav", "text": ""}]
    report = check_source(write_manifest(tmp_path / "m.jsonl", *rows))
    assert (report.without_speech, dict(report.problems)) == (1, {})
    assert "without speech: 1 rows, whose text is empty\n" in format_report(report)


def test_checks_saved_datasets(tmp_path: Path) -> None:
    content = write(tmp_path / "a.wav", tone(1, 8_000, 2), 8_000).read_bytes()
    rows = [{"audio": {"bytes": content, "path": None}, "text": "hi"}] * 2
    spec = str(tmp_path / "set")
    datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio()).save_to_disk(spec)
    report = check_source(spec)
    assert report.formats == {(8_000, 2): 2}
    assert report.problems == {
        "repeated recordings": [f"{spec}[1]: has the same recording as {spec}[0]"],
        "no voice": [f"{spec}[{row}]: {NO_VOICE}" for row in (0, 1)],
    }
