"""A page opened in a browser as a reader opens it."""

from pathlib import Path
from typing import Any

import pytest

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Opened:
    """A page, and everything it has complained of or asked for."""

    def __init__(
        self, browser: Any, path: Path, size: dict[str, int] = DESK, scheme: str = "light"
    ) -> None:
        self.url, self.width = path.as_uri(), size["width"]
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.url)

    def shown(self) -> list[str]:
        """The names of what a list shows."""
        return self.page.locator("#list .id").all_text_contents()

    def assert_fits_and_is_accessible(self) -> None:
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe").Axe()
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width
        found = axe.run(self.page).response["violations"]
        serious = {v["id"]: v["nodes"] for v in found if v["impact"] in ("serious", "critical")}
        assert not serious

    def assert_quiet(self) -> None:
        """Nothing was complained of, and nothing asked for but the page itself."""
        assert self.complaints == []
        assert {url for url in self.requests if not url.startswith(("data:", "blob:"))} == {
            self.url
        }
