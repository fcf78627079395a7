"""Names and texts that somebody else wrote: shown as text, whatever is in them."""

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.results.records import RunRecord
from peftbench.results.report.page import standalone
from peftbench.results.report.page.document import Document
from peftbench.results.report.page.render import render
from tests.helpers import studies
from tests.results.page.conftest import Opened

NAMES = [
    "<script>document.title='taken'</script>",
    "</script><script>alert(1)</script><!--",
    '"><img src=x onerror="document.title=\'taken\'">',
    "</style><svg onload=alert(1)>",
    "\x1b[2J\x1b[31mred\u202etxt\x07",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "x" * 10_000,
    "word " * 2_000,
    "__proto__",
    "constructor",
    "{{ 7 * 7 }}{% raw %}",
    "a'b`c&amp;d",
    "javascript:alert(1)",
    "line\nbreak\u2028and another",
]


def hostile() -> list[RunRecord]:
    """Every name as a method's, a data set's, a model's, a metric's, a key's, a footnote and a setting."""
    records = []
    for number, name in enumerate(NAMES):
        for seed in (0, 1):
            record = studies.record("lora", "sst2", seed=seed, footnotes=[name], changed=[f"method.lr={name}"])
            record.config["method"] |= {"name": name, "family": name}
            record.config["dataset"] |= {"name": NAMES[number // 2], "metrics": {name: "max"}}
            record.config["model"]["name"] = NAMES[number // 4]
            record.config["recipe"]["schedule"] = name
            record.metrics["validation"] = {"values": {name: 0.5}, "score": 0.5, "n": 9}
            record.learnt = {"soft_prompt": [[{"token": name, "similarity": 0.5}]]}
            record.key = name
            records.append(record)
    return records


@pytest.fixture(scope="module")
def page() -> Document:
    failed = [studies.record("full", "sst2", error=name, log=name) for name in NAMES]
    return studies.page(hostile(), failed=failed, not_applicable=[studies.record("ia3", "rte", error=n) for n in NAMES],
                        unreadable=[(name, name) for name in NAMES])  # fmt: skip


@pytest.mark.parametrize("width", [390, 1280])
def test_they_are_text(opened: Callable[..., Opened], page: Document, width: int) -> None:
    one = opened(page, width=width)
    shown = one.page
    assert shown.title().startswith("Leaderboard: ")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("script, style, img, iframe, object").count() == 3, "the page's own"
    names = shown.locator("#table tbody th .clamp").all_text_contents()
    assert "<script>document.title='taken'</script>" in names
    assert "{{ 7 * 7 }}{% raw %}" in names
    assert "\\x1b[2J\\x1b[31mred\\u202etxt\\x07" in names
    for button in shown.locator("[data-open]").all()[: len(NAMES)]:
        button.click()
        assert shown.locator("#details-body script, #details-body img").count() == 0
        shown.keyboard.press("Escape")
    assert max(len(name) for name in names) <= 2001


def test_filters_and_links_take_them(opened: Callable[..., Opened], page: Document) -> None:
    one = opened(page)
    for name in ("__proto__", "constructor", "<script>document.title='taken'</script>"):
        one.page.fill("#method", name)
        assert one.names() != []
        again = opened(page).at(one.view())
        assert again.names() == one.names()
    one.page.click("#reset")
    for value in one.page.locator("#metric option").evaluate_all("all => all.map(option => option.value)"):
        one.page.select_option("#metric", value)
        assert one.names() != []


def test_a_spreadsheet_takes_none_for_a_formula(opened: Callable[..., Opened], page: Document, tmp_path: Path) -> None:
    one = opened(page)
    with one.page.expect_download() as download:
        one.page.click("#csv")
    download.value.save_as(tmp_path / "view.csv")
    lines = list(csv.reader(io.StringIO((tmp_path / "view.csv").read_text(encoding="utf-8"))))
    assert len(lines) == 1 + len(page.rows)
    assert len({len(line) for line in lines}) == 1
    texts = [cell for line in lines for cell in line[:3]] + lines[0]
    assert any("=cmd" in text for text in texts)
    assert not [text for text in texts if text.lstrip().startswith(("=", "+", "-", "@"))]


def test_files_hold_no_markup_of_theirs(page: Document) -> None:
    text = render(page)
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "\x1b" not in text
    text.encode()
    for draw in (standalone.intervals, standalone.costs):
        ElementTree.fromstring(draw(page))
