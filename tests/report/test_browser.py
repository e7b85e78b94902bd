"""The page in a real browser: what it shows, what it plays, and that nothing leaves it."""

import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from echo.report.write import write_report
from tests.browser import DESK, PHONE
from tests.data.recordings import tone, write, write_manifest
from tests.report.results import comparison, data_set, pilot

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


@pytest.mark.parametrize("name", ["compared", "pilot"])
@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")])
def test_nothing_is_asked_for_complained_of_or_inaccessible(opened, results, name, size, scheme):
    one = opened(results[name], size, scheme)
    one.page.locator("#made").scroll_into_view_if_needed()
    one.assert_fits_and_is_accessible()
    one.assert_quiet()


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
    assert one.shown() == ["5.wav"]
    page.fill("#search", "nowhere")
    expect(count).to_have_text("0 of 7 utterances")
    page.fill("#search", "")
    expect(count).to_have_text("7 of 7 utterances")
    page.select_option("#filter", label="without errors")
    assert one.shown() == ["6.wav"]
    page.select_option("#filter", label="other better than base")
    assert set(one.shown()) == {f"{i}.wav" for i in range(6)}
    page.select_option("#filter", label="all utterances")
    page.select_option("#sort", label="longest")
    assert one.shown()[0] == "0.wav"
    page.select_option("#sort", label="order of the data")
    assert one.shown() == [f"{i}.wav" for i in range(7)]
    page.locator(".find", has_text="wards").click()
    assert one.shown() == ["5.wav"]


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
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 0)
    data = data_set(tmp_path, ["one two"])
    (tmp_path / "out").mkdir()
    one = opened(write_report(comparison(tmp_path / "out", data, base=["one"], other=["two"])))
    one.page.locator("#list .play").click()
    expect(one.page.locator("#list .now")).to_have_attribute("style", re.compile("left: [2-9]"))
    assert one.complaints == []
    assert {url.rpartition("/")[2] for url in one.requests} == {"report.html", "0.wav"}


def test_a_word_is_played_from_where_it_was_said(opened, results):
    """As far as that is known: in a pilot, but not in a comparison."""
    assert opened(results["compared"]).page.locator("#list .at").count() == 0
    one = opened(results["pilot"])
    one.page.fill("#search", "plain words")
    row = one.page.locator("#list article")
    expect(one.page.locator("#count")).to_have_text("1 of 7 utterances")
    word = row.locator(".got .at", has_text=re.compile("^wards$"))
    one.page.evaluate(
        """() => {
            window.times = [];
            const mel = document.querySelector("#list .mel");
            new MutationObserver(() => times.push(Number(mel.getAttribute("aria-valuenow"))))
                .observe(mel, { attributes: true });
        }"""
    )
    word.click()
    expect(row.locator(".play")).to_have_attribute("aria-pressed", "true")
    expect(row.locator(".play")).to_have_attribute("aria-pressed", "false")  # it has ended
    times = one.page.evaluate("times")
    assert 0.1 <= min(times) < max(times) <= 0.6
    assert one.complaints == []


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


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_chart_is_saved_as_a_picture(opened, results, tmp_path, kind):
    one = opened(results["pilot"])
    with one.page.expect_download() as started:
        one.page.get_by_label(f"Save WER during training as {kind.upper()}").click()
    assert started.value.suggested_filename == f"wer-during-training.{kind}"
    path = tmp_path / "picture"
    started.value.save_as(path)
    if kind == "png":
        with Image.open(path) as picture:
            assert len(picture.getcolors(1 << 20)) > 5
        return
    root = ElementTree.parse(path).getroot()
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    names = [f"{model}, seed {seed}" for model in ("echo", "whisper") for seed in (1, 2)]
    assert texts[0] == "WER during training, %"
    assert texts[1] == "step"
    assert texts[-4:] == names
    lines = [each.get("d") for each in root.iter("{http://www.w3.org/2000/svg}path")]
    assert sum(line.count("L") == 3 for line in lines) == 4  # four evaluations of four runs
    assert one.complaints == []


def test_what_is_printed_is_light_whatever_the_screen_is(opened, results):
    style = """() => {
      const { backgroundColor, color } = getComputedStyle(document.body);
      const plots = [...document.querySelectorAll(".plot canvas")].map((each) => each.toDataURL());
      return { backgroundColor, color, plots };
    }"""
    dark, light = (opened(results["pilot"], DESK, scheme).page for scheme in ("dark", "light"))
    assert dark.evaluate(style)["plots"] != light.evaluate(style)["plots"]
    for page in (dark, light):
        page.emulate_media(media="print")
        expect(page.locator("nav")).to_be_hidden()
    printed = dark.evaluate(style)
    assert printed["backgroundColor"] == "rgb(255, 255, 255)"
    assert printed["color"] == "rgb(0, 0, 0)"
    assert len(printed["plots"]) == 5
    assert printed == light.evaluate(style)


@pytest.mark.slow
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
