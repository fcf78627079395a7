"""A page in headless Chromium, and all that it asks for or complains of."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from peftbench.results.report.page.document import Document
from peftbench.results.report.page.render import render
from tests.helpers import studies

#: Nothing that a browser does of itself, no sandbox (there is none for root in a container), no device.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]  # fmt: skip


@dataclass
class Opened:
    """A page that is open; `heard` is every request but the first, every message and every error."""

    page: Any
    url: str
    heard: list[str] = field(default_factory=list)

    def check_fits(self, width: int) -> None:
        """Nothing is wider than the screen, and axe finds nothing wrong, in an open score neither."""
        from axe_playwright_python.sync_playwright import Axe

        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        results = Axe().run(self.page)
        assert results.violations_count == 0, results.generate_report()
        self.page.locator("[data-open]").first.click()
        results = Axe().run(self.page, context="#details")
        assert results.violations_count == 0, results.generate_report()

    def at(self, view: str) -> "Opened":
        """Follow a link to a view."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}#{view}")
        return self

    def view(self) -> str:
        """What a link to the page as it is would say of the view. (`page.url` learns of it later.)"""
        return str(self.page.evaluate("location.hash")).removeprefix("#")

    def names(self) -> list[str]:
        """The methods of the rows that are shown, in their order."""
        rows = self.page.locator("#table tbody tr:visible th")
        return [" ".join(text.split()) for text in rows.all_inner_texts()]

    def column(self, name: str) -> list[str]:
        """The texts of a column, of the rows that are shown."""
        return self.page.locator(f'#table tbody tr:visible td[data-label="{name}"] .clamp').all_inner_texts()  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def document() -> Document:
    return studies.page(studies.study())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("there is no chromium here (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed (pip install playwright)")
    # What it reads of its environment could reach the desktop that the tests are run from.
    environment = {"HOME": os.environ.get("HOME", "/tmp"), "PATH": os.environ["PATH"]}
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=executable, args=ARGUMENTS, env=environment)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, document: Document, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens a file or a document (the study's) in a window; fails at the end if it asked or complained of anything."""
    contexts, pages = [], []

    def show(shown: Document | Path = document, *, width: int = 1280, scheme: str = "light") -> Opened:
        file = shown if isinstance(shown, Path) else tmp_path / f"{len(pages)}.html"
        if isinstance(shown, Document):
            file.write_text(render(shown), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True, offline=True
        )
        contexts.append(context)
        one = Opened(context.new_page(), file.as_uri())
        one.page.set_default_timeout(20_000)
        one.page.on("console", lambda message: one.heard.append(f"console: {message.text}"))
        one.page.on("pageerror", lambda error: one.heard.append(f"error: {error}"))
        one.page.on("dialog", lambda dialog: (one.heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        one.page.on("request", lambda request: one.heard.append(request.url))
        one.page.goto(one.url)
        pages.append(one)
        return one

    yield show
    for one in pages:
        own = {one.url, "data:,"}
        assert [what for what in one.heard if what.partition("#")[0] not in own and not what.startswith("blob:")] == []
    for context in contexts:
        context.close()
