"""Fixtures for tests of pages in a real browser."""

import pytest


@pytest.fixture(scope="module")
def browser():
    from tests.report.browser import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    from tests.report.browser import Opened

    contexts = []

    def at(path, *arguments):
        one = Opened(browser, path, *arguments)
        contexts.append(one.context)
        return one

    yield at
    for context in contexts:
        context.close()
