"""Sentences are found where they are said, and nothing else is kept."""

import random

import pytest
import soundfile
import torch

from echo.model.geometry import SAMPLE_RATE
from echo.transcribe.align.recording import HELD
from echo.transcribe.align.texts import Sentence
from tests.transcribe.align import tones
from tests.transcribe.align.tones import PAUSE, aligner, heard, sentence, speak


def recorded(folder, texts):
    samples, times = speak(texts)
    path = folder / "talk.wav"
    soundfile.write(path, samples, SAMPLE_RATE)
    return path, times


def check_places(found, times, said):
    """Each sentence that is kept is where it is said, and cut in the pauses around it."""
    for each in found.kept:
        start, end = times[said[each.text]]
        assert start - PAUSE <= each.before <= start
        assert end <= each.after <= end + PAUSE
        assert each.start == pytest.approx(start, abs=0.05)
        assert each.end == pytest.approx(end, abs=0.05)


def test_faults_of_a_plain_text_are_found(tmp_path):
    """Of a recording that is longer than what is in memory at a time."""
    texts = [sentence(i) for i in range(120)]
    path, times = recorded(tmp_path, texts)
    said = {text: i for i, text in enumerate(texts)}
    assert times[-1][1] > HELD
    lacking, added = {7, 8, 60}, {20: sentence(900), 61: sentence(901)}
    written = []
    for i, text in enumerate(texts):
        written += [added[i]] if i in added else []
        written += [] if i in lacking else [text]
    own = aligner(max_seconds=5)
    found = own.align(path, [Sentence(text) for text in written])
    assert {each.text for each in found.kept} == {*texts} - {texts[i] for i in lacking}
    assert [written[i] for i in found.missing] == [added[20]]
    # Where another sentence is said, it is judged by its score.
    assert [each.text for each in found.rejected] == [added[61]]
    assert [reason.rule for reason in found.rejected[0].reasons] == ["score", "wer"]
    check_places(found, times, said)
    unlabelled = [(times[7][0], times[8][1]), times[60]]
    assert [(s.start, s.end) for s in found.unlabelled] == [
        pytest.approx(each, abs=0.06) for each in unlabelled
    ]
    assert [s.heard for s in found.unlabelled] == [f"{texts[7]} {texts[8]}", texts[60]]
    assert own.emissions.longest <= 30 * SAMPLE_RATE
    assert own.transcriber.seconds == pytest.approx(found.seconds)  # heard once


def test_a_language_without_spaces_gets_none(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tones,
        "PITCHES",
        {letter: 500 + 80 * i for i, letter in enumerate("甲乙丙丁戊己庚辛壬癸子丑寅")},
    )
    path, _ = recorded(tmp_path, ["甲 乙 丙 丁", "戊 己 庚 辛", "壬 癸 子 丑 寅"])
    own = tones.aligner("zh")
    found = own.align(path, [Sentence("甲乙丙丁。"), Sentence("戊己 庚辛。")])
    [row] = found.rows
    assert (row.text, row.heard) == ("甲乙丙丁。戊己 庚辛。", "甲乙丙丁戊己庚辛")
    assert [each.heard for each in found.unlabelled] == ["壬癸子丑寅"]


def test_times_that_are_off_are_corrected(tmp_path):
    """The text is late, and its clock runs fast. Most of the recording is not transcribed."""
    texts = [sentence(i) for i in range(300)]
    path, times = recorded(tmp_path, texts)
    said = {text: i for i, text in enumerate(texts)}
    rng = random.Random(0)

    def told(seconds):
        return (seconds + 40) * 1.02 + rng.uniform(-0.3, 0.3)

    lines = [
        Sentence(text, None, told(a), told(b)) for text, (a, b) in zip(texts, times, strict=True)
    ]
    wrong = lines[50]
    lines[50] = Sentence(sentence(900), None, wrong.start, wrong.end)
    del lines[100]
    own = aligner()
    found = own.align(path, lines)
    assert {each.text for each in found.kept} == {*texts} - {texts[50], texts[100]}
    assert [each.text for each in found.rejected] == [sentence(900)]
    assert [reason.rule for reason in found.rejected[0].reasons] == ["score"]
    check_places(found, times, said)
    assert len(found.unlabelled) == 2
    assert own.transcriber.seconds < found.seconds / 2


def test_times_of_another_recording_are_not_used(tmp_path, caplog):
    texts = [sentence(i) for i in range(40)]
    path, times = recorded(tmp_path, texts)
    rng = random.Random(0)
    starts = sorted(rng.uniform(0, 1000) for _ in texts)
    found = aligner().align(
        path, [Sentence(t, None, a, a + 1) for t, a in zip(texts, starts, strict=True)]
    )
    assert "do not fit, and are not used" in caplog.text
    assert [each.text for each in found.kept] == texts
    check_places(found, times, {text: i for i, text in enumerate(texts)})


def test_rows_are_joined_and_long_sentences_cut(tmp_path):
    texts = [sentence(i, 12) for i in range(12)]
    path, _times = recorded(tmp_path, texts)
    one = [Sentence(" ".join(texts[:6])), *map(Sentence, texts[6:])]  # of 28 s, and others of 4
    found = aligner(max_seconds=10).align(path, one)
    assert " ".join(row.text for row in found.rows) == " ".join(texts)
    assert all(row.end - row.start <= 10 + 1e-6 for row in found.rows)
    assert len(found.rows) < len(found.kept) + 1 <= 13
    for row, following in zip(found.rows, found.rows[1:], strict=False):
        assert row.end <= following.start
    speakers = [Sentence(text, str(i % 2)) for i, text in enumerate(texts)]
    found = aligner(max_seconds=30).align(path, speakers)
    assert [row.text for row in found.rows] == texts  # who speaks changes with each


@pytest.mark.parametrize("is_first", [True, False])
def test_a_short_sentence_is_in_its_row(tmp_path, is_first):
    """Though there is a pause on one side of it alone."""
    texts = [sentence(i) for i in range(3)]
    path, _ = recorded(
        tmp_path, [texts[0], f"ba {texts[1]}" if is_first else f"{texts[1]} ba", texts[2]]
    )
    short = Sentence("ba", "Bob")
    told = [Sentence(text, "Ann") for text in texts]
    told.insert(1 if is_first else 2, short)
    rows = aligner().align(path, told).rows
    samples = torch.from_numpy(soundfile.read(path)[0]).float()
    for row in rows:
        part = samples[round(row.start * SAMPLE_RATE) : round(row.end * SAMPLE_RATE)]
        assert " ".join(word for word, *_ in heard(part)) == row.text
    assert "ba" in [row.text for row in rows]


def test_a_text_that_goes_on_after_its_recording_is_missing_there(tmp_path):
    texts = [sentence(i) for i in range(40)]
    path, times = recorded(tmp_path, texts[:20])
    starts = [*times, *((times[-1][1] + 2 * i, times[-1][1] + 2 * i + 1) for i in range(1, 21))]
    told = [Sentence(text, None, *at) for text, at in zip(texts, starts, strict=True)]
    found = aligner().align(path, told)
    assert [each.text for each in found.kept] == texts[:20]
    assert {*found.missing} | {each.part.sentence for each in found.rejected} == {*range(20, 40)}


def test_what_scores_badly_once_its_neighbour_is_gone_is_rejected_too(tmp_path, monkeypatch):
    texts = [sentence(i) for i in range(6)]
    path, _ = recorded(tmp_path, texts)
    own = aligner()
    timed = own.time

    def worse(recording, piece, items):
        """Hears nothing the second time."""
        monkeypatch.setattr(
            own, "time", lambda *again: [t._replace(logprob=-9.0) for t in timed(*again)]
        )
        return timed(recording, piece, items)

    monkeypatch.setattr(own, "time", worse)
    written = [*texts[:3], sentence(900), *texts[4:]]
    found = own.align(path, [Sentence(text) for text in written])
    assert found.kept == found.rows == []
    assert sorted(each.text for each in found.rejected) == sorted(written)
    assert all(each.reasons for each in found.rejected)
