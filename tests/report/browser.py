"""A page in a real browser. Importing it skips the module that does where there is none."""

import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dev extra")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe").Axe
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Opened:
    """A page, and everything it has complained of or asked for."""

    def __init__(self, browser, path, size=DESK, scheme="light"):
        self.url, self.width = path.as_uri(), size["width"]
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.url)

    def shown(self):
        return self.page.locator("#list .id").all_text_contents()

    def assert_fits_and_is_accessible(self):
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width
        found = Axe().run(self.page).response["violations"]
        serious = {v["id"]: v["nodes"] for v in found if v["impact"] in ("serious", "critical")}
        assert not serious

    def assert_quiet(self):
        """Nothing was complained of, and nothing asked for but the page itself."""
        assert self.complaints == []
        assert {url for url in self.requests if not url.startswith(("data:", "blob:"))} == {
            self.url
        }
