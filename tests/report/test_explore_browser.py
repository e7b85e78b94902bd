"""The page of a data set in a real browser: what it finds, sorts and plays."""

import re

import numpy as np
import pytest

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
