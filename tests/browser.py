"""A page opened in a browser as a reader opens it."""

from pathlib import Path
from typing import Any

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Opened:
    """A page, and everything it has complained of or asked for."""

    def __init__(
        self, browser: Any, path: Path, size: dict[str, int] = DESK, scheme: str = "light"
    ) -> None:
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
