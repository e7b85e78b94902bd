"""The built documentation, opened from disk in a real browser."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import DESK, PHONE

pytest.importorskip("zensical", reason="needs zensical, of the docs extra")
expect = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, of the dev extra"
).expect
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("zensical.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "echo").symlink_to(ROOT / "echo")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


@pytest.mark.slow
def test_no_page_asks_the_network_complains_or_is_too_wide(opened, site):
    pages = sorted(set(site.glob("*.html")) - {site / "404.html"})  # a server shows that one
    assert len(pages) > 20
    one = opened(pages[0], PHONE, "dark")
    for path in pages:
        one.page.goto(path.as_uri())
        for size in (PHONE, DESK):
            one.page.set_viewport_size(size)
            width = one.page.evaluate("document.documentElement.scrollWidth")
            assert (one.complaints, width <= size["width"]) == ([], True), path.name
    assert [url for url in one.requests if not url.startswith(f"{site.as_uri()}/")] == []


def test_settings_and_commands_fit_a_phone(opened, site):
    for name in ("settings", "commands"):
        one = opened(site / f"{name}.html", PHONE)
        assert one.page.locator("dt").count() > 50
        assert one.page.locator("article table").count() == 0
        assert (
            one.page.evaluate(
                "[...document.querySelectorAll('dl *')]"
                ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.textContent)"
            )
            == []
        )


@pytest.mark.slow
def test_the_search_works_from_disk(opened, site):
    one = opened(site / "index.html")
    one.page.keyboard.press("/")
    one.page.keyboard.type("gradient_checkpointing", delay=50)
    expect(one.page.get_by_role("searchbox").or_(one.page.get_by_role("combobox"))).to_have_value(
        "gradient_checkpointing"
    )
    one.page.get_by_text("Larger models in the memory you have").click()
    expect(one.page.locator("h1")).to_contain_text("Larger models")
    assert one.page.url.startswith((site / "memory.html").as_uri())
    assert one.complaints == []
