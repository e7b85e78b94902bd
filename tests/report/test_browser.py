"""The page in a real browser: what it shows, what it plays, and that nothing leaves it."""

import re

import pytest

from echo.report.write import write_report
from tests.browser import DESK, PHONE
from tests.data.recordings import tone, write, write_manifest
from tests.report.results import comparison, data_set, pilot

Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe").Axe
expect = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, of the dev extra"
).expect

HOSTILE = [
    "<script>window.hacked = 1</script> one",
    "</script><img src=x onerror=window.hacked=2> two",
    "\"quotes\" 'and' &amp; <b>three</b>",
    "שלום עולם four",
    "🦊 five \u2028 six",
]
CUT = 'say "</script><script>window.hacked=3</script>"'


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The pages of a comparison with hostile texts, and of a pilot with two seeds."""
    folder = tmp_path_factory.mktemp("results")
    data = data_set(folder, [*HOSTILE, "plain words", "the same"])
    worse = [f"{text} more" for text in HOSTILE]
    heard = {"base": [*worse, CUT, "the same"], "other": [*HOSTILE, "plain wards", "the same"]}
    (folder / "compared").mkdir()
    comparison(folder / "compared", data, **heard)
    pilot(folder / "pilot", data, {"echo": [heard["other"]] * 2, "whisper": [heard["base"]] * 2})
    return {name: write_report(folder / name) for name in ("compared", "pilot")}


def shown(one):
    """The names of the utterances that the page lists."""
    return one.page.locator("#list .id").all_text_contents()


@pytest.mark.parametrize("name", ["compared", "pilot"])
@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")])
def test_nothing_is_asked_for_complained_of_or_inaccessible(opened, results, name, size, scheme):
    one = opened(results[name], size, scheme)
    one.page.locator("#made").scroll_into_view_if_needed()
    width = one.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"]
    found = Axe().run(one.page).response["violations"]
    serious = {v["id"]: v["nodes"] for v in found if v["impact"] in ("serious", "critical")}
    assert not serious
    assert one.complaints == []
    assert {url for url in one.requests if not url.startswith(("data:", "blob:"))} == {
        results[name].as_uri()
    }


def test_transcripts_are_texts_whatever_they_hold(opened, results):
    page = opened(results["compared"]).page
    assert page.evaluate("window.hacked") is None
    said = [" ".join(text.split()) for text in HOSTILE]
    for text in said:
        assert page.get_by_text(text, exact=True).count() >= 1
    assert page.locator("#list img[src=x], #list script, #list b:has-text('three')").count() == 0


def test_utterances_are_searched_filtered_and_sorted(opened, results):
    one = opened(results["compared"])
    page, count = one.page, one.page.locator("#count")
    assert count.text_content() == "7 of 7 utterances"
    page.fill("#search", "PLAIN wor")
    expect(count).to_have_text("1 of 7 utterances")
    assert shown(one) == ["5.wav"]
    page.fill("#search", "nowhere")
    expect(count).to_have_text("0 of 7 utterances")
    page.fill("#search", "")
    expect(count).to_have_text("7 of 7 utterances")
    page.select_option("#filter", label="without errors")
    assert shown(one) == ["6.wav"]
    page.select_option("#filter", label="other better than base")
    assert set(shown(one)) == {f"{i}.wav" for i in range(6)}
    page.select_option("#filter", label="all utterances")
    page.select_option("#sort", label="longest")
    assert shown(one)[0] == "0.wav"
    page.select_option("#sort", label="order of the data")
    assert shown(one) == [f"{i}.wav" for i in range(7)]
    page.locator(".find", has_text="wards").click()
    assert shown(one) == ["5.wav"]


def test_the_recording_plays_and_its_line_moves(opened, results):
    one = opened(results["compared"])
    row = one.page.locator("#list article").first
    row.locator(".play").click()
    expect(row.locator(".now")).to_have_attribute("style", re.compile("left: [2-9]"))
    expect(row.locator(".play")).to_have_attribute("aria-pressed", "false")  # it has ended
    slider = one.page.locator("#list .mel").nth(1)
    slider.focus()
    one.page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "0.25")
    assert one.complaints == []


def test_a_linked_recording_is_played_from_where_it_lies(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("echo.report.write.EMBEDDED_BYTES", 0)
    data = data_set(tmp_path, ["one two"])
    (tmp_path / "out").mkdir()
    one = opened(write_report(comparison(tmp_path / "out", data, base=["one"], other=["two"])))
    one.page.locator("#list .play").click()
    expect(one.page.locator("#list .now")).to_have_attribute("style", re.compile("left: [2-9]"))
    assert one.complaints == []
    assert {url.rpartition("/")[2] for url in one.requests} == {"report.html", "0.wav"}


def test_curves_say_their_values_and_change_their_axis(opened, results):
    one = opened(results["pilot"])
    plot = one.page.locator("#training .chart").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".u-over").bounding_box()
    one.page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    label, first = (plot.locator(".u-legend .u-series").nth(i) for i in (0, 1))
    assert label.text_content() == "step10"
    assert first.text_content() == "echo, seed 11"  # the loss at step 10 is 1
    one.page.get_by_label("seconds of training").first.check()
    one.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert label.text_content() == "seconds8"
    spans = one.page.locator("#attention-0 .chart").first.locator(".u-legend .u-series").nth(1)
    assert spans.text_content() == "encoder.1, seed 1160"  # half of 16 positions of 20 ms


def test_of_2000_utterances_few_are_rendered_at_a_time(opened, tmp_path):
    rest = "word " * 20
    texts = [f"utterance {i} {rest}" for i in range(2000)]
    heard = [text.replace("word", "ward", i % 4) for i, text in enumerate(texts)]
    write(tmp_path / "a.wav", tone(0.1))
    rows = [{"id": f"u{i}", "audio_filepath": "a.wav", "text": t} for i, t in enumerate(texts)]
    data = write_manifest(tmp_path / "data.jsonl", *rows)
    (tmp_path / "out").mkdir()
    page = write_report(comparison(tmp_path / "out", data, base=texts, other=heard), utterances=[])
    assert page.stat().st_size < 6_000_000
    one = opened(page)
    articles = one.page.locator("#list article")
    assert articles.count() < 100
    one.page.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight }")
    one.page.wait_for_selector("#u1996")  # without errors, so among the last
    assert articles.count() < 100
    assert one.complaints == []
