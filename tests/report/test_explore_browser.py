"""The page of a data set in a real browser: what it finds, sorts and plays."""

import re

import numpy as np
import pytest

from echo.data.prepare.corrections import apply_corrections
from echo.data.sources import ReadOptions, read_source
from echo.report.explore import write_exploration
from tests.browser import DESK, PHONE
from tests.data.recordings import tone, write, write_manifest

expect = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, of the dev extra"
).expect

SPEED = re.compile(r"([\d.]+) characters/s")
SCRIPT = "<script>window.hacked = 1</script>"
ESCAPE = "</script><img src=x onerror=window.hacked=2>"
GONE = "<script>gone</script>"
TEXTS = [
    SCRIPT,
    ESCAPE,
    '"quotes" &amp; <b>three</b>',
    "שלום four",
    "🦊 five \u2028 six",
    "Plain words",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows of hostile texts and speakers: one text has a line break, the last recording but one is
    silent, and the last is gone."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for i, text in enumerate(TEXTS):
        rising = np.linspace(0, 1, round(16_000 * (0.5 + 0.1 * i)))[:, None]  # not a mere hum
        write(folder / f"{i}.wav", tone(0.5 + 0.1 * i) * rising)
        speaker = {0: ESCAPE, 1: "s1", 2: "s10"}.get(i, "s1")
        rows.append({"audio_filepath": f"{i}.wav", "text": text, "speaker": speaker})
    write(folder / "silent.wav", np.zeros(16_000))
    rows.append({"audio_filepath": "silent.wav", "text": "plain words", "speaker": "s10"})
    rows.append({"audio_filepath": f"{GONE}.wav", "text": SCRIPT})
    return write_manifest(folder / "data.jsonl", *rows)


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "data.html"
    write_exploration(data, path)
    return path


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")])
def test_nothing_is_asked_for_complained_of_or_inaccessible(opened, page, size, scheme):
    one = opened(page, size, scheme)
    one.page.locator("#utterances").scroll_into_view_if_needed()
    one.assert_fits_and_is_accessible()
    one.assert_quiet()


def test_texts_speakers_and_problems_are_texts_whatever_they_hold(opened, page):
    shown = opened(page).page
    assert shown.evaluate("window.hacked") is None
    listed = shown.locator("#list")
    for text in TEXTS:
        expect(listed.get_by_text(" ".join(text.split()), exact=True).first).to_be_visible()
    assert shown.locator("#list script, #list b:has-text('three'), img[src=x]").count() == 0
    expect(shown.locator("#problems")).to_contain_text(GONE)
    expect(shown.locator("#speakers button").get_by_text(ESCAPE)).to_be_visible()


def test_rows_are_searched_and_sorted(opened, page):
    one = opened(page)
    shown, count = one.page, one.page.locator("#count")
    expect(count).to_have_text("8 of 8 rows")
    problems = ["4.wav", "silent.wav", "row 8"]
    assert one.shown()[:3] == problems
    shown.fill("#search", "PLAIN wor")
    expect(count).to_have_text("2 of 8 rows")
    shown.fill("#search", "digital silence")
    expect(count).to_have_text("1 of 8 rows")
    shown.fill("#search", "")
    expect(count).to_have_text("8 of 8 rows")
    shown.select_option("#sort", label="longest")
    # 1.0 s: the silent one and the last tone, in the order of the data; no length comes last
    assert one.shown() == ["5.wav", "silent.wav", *(f"{i}.wav" for i in (4, 3, 2, 1, 0)), "row 8"]
    shown.select_option("#sort", label="shortest")
    assert one.shown()[0] == "0.wav"
    shown.select_option("#sort", label="slowest speech")
    said = shown.locator("#list header span").all_text_contents()
    speeds = [float(found[1]) for each in said if (found := SPEED.fullmatch(each))]
    assert len(speeds) == 7
    assert speeds == sorted(speeds)
    shown.select_option("#sort", label="order of the data")
    shown.select_option("#filter", label="with problems")
    assert one.shown() == problems
    shown.select_option("#filter", label="with sound")
    assert one.shown() == [*(f"{i}.wav" for i in range(6)), "silent.wav"]


@pytest.mark.parametrize(
    ("section", "label", "rows"),
    [
        ("speakers", "s1", {"1.wav", "3.wav", "4.wav", "5.wav"}),  # and not those of s10
        ("speakers", "s10", {"2.wav", "silent.wav"}),
        ("texts", "P", {"5.wav"}),  # and not the small letter
        ("texts", "🦊", {"4.wav"}),
        ("texts", "line separator", {"4.wav"}),
    ],
)
def test_what_is_chosen_elsewhere_is_found_exactly(opened, page, section, label, rows):
    one = opened(page)
    one.page.locator(f"#{section}").get_by_role("button", name=label, exact=True).click()
    assert {*one.shown()} == rows
    expect(one.page.locator("#count")).to_be_in_viewport()
    one.page.select_option("#filter", label="all rows")
    assert len(one.shown()) == 8


def test_recordings_play_and_histograms_say_their_counts(opened, page):
    one = opened(page)
    row = one.page.locator("#list article").first
    row.locator(".play").click()
    expect(row.locator(".now")).to_have_attribute("style", re.compile("left: [2-9]"))
    plot = one.page.locator("#histograms .chart").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".u-over").bounding_box()
    one.page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
    values = plot.locator(".u-legend .u-value")
    expect(values.first).to_have_text("0.5 to 0.52")  # 0.5 s, the shortest
    expect(values.last).to_have_text("1")
    one.assert_quiet()


def test_a_linked_recording_is_played_from_where_it_lies(opened, data, tmp_path, monkeypatch):
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 0)
    write_exploration(data, tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    one.page.select_option("#sort", label="order of the data")
    row = one.page.locator("#list article").first
    row.locator(".play").click()
    expect(row.locator(".now")).to_have_attribute("style", re.compile("left: [2-9]"))
    assert one.complaints == []
    assert {url.rpartition("/")[2] for url in one.requests} == {"page.html", "0.wav"}


@pytest.mark.slow
def test_a_part_of_a_recording_is_played_from_where_it_starts_to_where_it_ends(
    opened, tmp_path, monkeypatch
):
    write(tmp_path / "a.wav", tone(60))
    row = {"audio_filepath": "a.wav", "text": "x", "offset": 40, "duration": 0.5}
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 0)
    write_exploration(write_manifest(tmp_path / "m.jsonl", row), tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    row = one.page.locator("#list article").first
    row.locator(".play").click()
    # It stops there, not 20 seconds later.
    expect(row.locator(".mel")).to_have_attribute("aria-valuenow", "0.50")
    expect(row.locator(".play")).to_have_text("▶")
    assert one.complaints == []


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    """The page of a filter's folder: parts of two recordings, one of them with hostile names."""
    folder = tmp_path_factory.mktemp("filtered")
    names = ["long.wav", "<img src=x onerror=window.hacked=3>.wav"]
    for name in names:
        write(folder / name, tone(20) * np.linspace(0, 1, 320_000)[:, None])
    part = {"duration": 1.0, "text": "one", "heard": ESCAPE}
    kept = [{**part, "audio_filepath": names[i // 3], "offset": 2 * (i % 3)} for i in range(6)]
    write_manifest(folder / "kept.jsonl", *({**row, "wer": i / 10} for i, row in enumerate(kept)))
    reason = {"rule": SCRIPT, "figure": 1, "what": ESCAPE}
    row = {**part, "audio_filepath": names[0], "offset": 15, "reasons": [reason], "text": SCRIPT}
    write_manifest(folder / "rejected.jsonl", row)
    write_exploration(str(folder), folder / "page.html")
    return folder / "page.html"


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_a_filters_folder_fits_is_accessible_and_runs_no_text(opened, filtered, size, scheme):
    one = opened(filtered, size, scheme)
    one.page.locator("#list .edit").first.click()
    one.assert_fits_and_is_accessible()
    assert one.page.evaluate("window.hacked") is None
    one.assert_quiet()


def test_what_is_doubtful_comes_first_and_is_found_by_rule_and_recording(opened, filtered):
    one = opened(filtered)
    assert one.shown()[0] == "long.wav@15-16"
    expect(one.page.locator("#list .flaw").first).to_have_text(f"{SCRIPT} {ESCAPE}")
    rates = one.page.locator("#list header").get_by_text("WER").all_text_contents()
    assert rates == [f"WER {10 * i} %" for i in (5, 4, 3, 2, 1, 0)]
    one.page.locator("#rejected").get_by_role("button", name=SCRIPT).click()
    assert one.shown() == ["long.wav@15-16"]
    one.page.locator("#timelines").get_by_role("button", name="Show its rows").first.click()
    assert one.shown()[0] == "long.wav@15-16"
    assert len(one.shown()) == 4
    one.page.select_option("#filter", label="kept")
    assert len(one.shown()) == 6


def test_a_click_on_a_timeline_plays_from_there(opened, filtered):
    one = opened(filtered)
    row = one.page.locator("#timelines article").last
    line = row.locator(".timeline")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    one.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 5)
    expect(row.locator(".now")).to_have_attribute("style", re.compile(r"left: 7[5-9]\."))
    expect(row.locator(".play")).to_have_text("❚❚")
    assert one.complaints == []


def test_the_timeline_of_a_channel_is_drawn_and_does_not_play(opened, tmp_path):
    write(tmp_path / "call.wav", tone(10, channels=2))
    row = {"audio_filepath": "call.wav", "channel": 1, "duration": 2.0, "text": "one"}
    spec = write_manifest(tmp_path / "m.jsonl", *({**row, "offset": at} for at in (0, 4)))
    write_exploration(spec, tmp_path / "page.html")
    one = opened(tmp_path / "page.html")
    timeline = one.page.locator("#timelines article")
    expect(timeline.locator(".play")).to_have_count(0)
    timeline.locator(".timeline").click()
    timeline.get_by_role("button", name="Show its rows").click()
    assert len(one.shown()) == 2
    one.assert_quiet()


def test_corrections_are_saved_and_applied(opened, data, page, tmp_path):
    one = opened(page)
    shown = one.page
    expect(shown.locator("#saving")).to_be_hidden()
    for id, text in (("0.wav", ESCAPE), ("3.wav", "  fünf  "), ("5.wav", "first")):
        row = shown.locator("#list article", has=shown.get_by_text(id, exact=True))
        row.get_by_role("button", name="Correct").click()
        row.get_by_role("textbox").fill(text)
        row.get_by_role("textbox").press("Enter")
        expect(row.locator(".text")).to_have_text(" ".join(text.split()))
        expect(row.locator(".edit")).to_be_focused()
    # What is typed and given up, and what is typed back, is no correction.
    row.get_by_role("button", name="Correct").click()
    row.get_by_role("textbox").fill(TEXTS[5])
    row.get_by_role("textbox").blur()
    row = shown.locator("#list article", has=shown.get_by_text("1.wav", exact=True))
    row.get_by_role("button", name="Correct").click()
    row.get_by_role("textbox").fill("unwanted")
    row.get_by_role("textbox").press("Escape")
    assert shown.evaluate("window.hacked") is None
    shown.select_option("#filter", label="corrected")
    assert one.shown() == ["0.wav", "3.wav"]
    with shown.expect_download() as downloading:
        shown.get_by_role("button", name="Save 2 corrections").click()
    assert downloading.value.suggested_filename == "corrections.jsonl"
    downloading.value.save_as(tmp_path / "c.jsonl")
    done = apply_corrections(tmp_path / "c.jsonl", data, tmp_path / "out.jsonl", ReadOptions())
    assert (done.corrected.rows, done.refused) == (2, [])
    found = {
        u.id: u for u in read_source(str(tmp_path / "out.jsonl"), ReadOptions(allow_outside=True))
    }
    assert [found[f"{i}.wav"].text for i in (0, 1, 3)] == [ESCAPE, TEXTS[1], "fünf"]
    assert found["3.wav"].extra["text_before"] == TEXTS[3]
    one.assert_quiet()
