"""The page's parts beside the scores, in headless Chromium."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from peftbench.results.report.page import sections, words
from peftbench.results.report.page.document import Document
from peftbench.results.reproduction.findings import Finding
from tests.helpers import judged, studies
from tests.results.page.conftest import Opened
from tests.results.page.test_hostile_names import NAMES

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def page() -> Document:
    return judged.page()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_they_fit_any_screen_and_are_accessible(opened: Open, page: Document, width: int, scheme: str) -> None:
    one = opened(page, width=width, scheme=scheme)
    one.check_fits(width)
    for name in ("papers", "findings", "memory"):
        box = one.page.locator(f"#{name} figure svg").first.bounding_box()
        assert box["width"] <= width


def test_links_lead_to_them(opened: Open, page: Document) -> None:
    one = opened(page)
    for name in ("Papers against ours", "Findings", "Beyond the score", "Memory by part"):
        one.page.get_by_role("navigation").get_by_role("link", name=name).press("Enter")
        assert one.page.evaluate("document.activeElement.querySelector('h2').textContent") == name
    assert one.view() == "", "the address is the view's"


def test_what_decides_a_row_is_folded_under_it(opened: Open, page: Document) -> None:
    one = opened(page)
    summary = one.page.locator("#papers summary", has_text="bitfit/table1_bert_large on sst2: lower")
    line = one.page.locator("#papers li", has_text="ours: 91.20 [91.0, 91.4], 5 seeds")
    assert not line.is_visible()
    summary.press("Enter")
    assert line.is_visible()
    assert one.page.locator("#findings li", has_text="needs 3 of its 9 runs").is_visible()


def test_a_cell_opens_to_its_classes(opened: Open, page: Document) -> None:
    one = opened(page)
    row = next(row for row in page.rows if row.method == "lora")
    one.page.locator(f'[data-open="{row.id}.{page.columns[0].id}"]').press("Enter")
    dialog = one.page.get_by_role("dialog")
    by = dialog.get_by_role("table", name="By class")
    assert by.get_by_role("row").nth(1).inner_text().split() == ["negative", "89.7", "89.7", "89.7", "436"]
    confusion = dialog.get_by_role("table", name="Confusion")
    assert confusion.get_by_role("cell").all_inner_texts() == ["1173", "135", "135", "1173"]
    assert confusion.get_by_role("rowheader").all_inner_texts() == ["negative", "positive"]


def test_hosted_runs_have_a_table_and_a_column(opened: Open, page: Document) -> None:
    one = opened(page)
    table = one.page.get_by_role("table", name="Hosted and prompted runs")
    assert table.get_by_role("row").count() == 2, "of the one row that has any"
    assert "1.0312" in table.inner_text()
    one.page.click("#menu-cols summary")
    one.page.check('#menu-cols input[value="price"]')
    assert "1.0312" in one.column("price")


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_names_are_text(opened: Open, width: int) -> None:
    board = judged.board()
    rows = [
        replace(board.published[0], experiment=name, dataset=name, departures=[name],
                expected=replace(board.published[0].expected, source=name, metric=name))
        for name in NAMES
    ]  # fmt: skip
    found = [
        replace(one, name=name, result=replace(one.result, finding=Finding(name, name, 3, []), needs=[name]))
        for one in board.findings
        for name in NAMES
    ]
    memory = [replace(board.memory[0], row=(name, name, name), column=name, measured={name: 9}) for name in NAMES]
    evaluated = [replace(board.evaluation[0], row=(name, name, name), column=name, figure=name) for name in NAMES]
    runs = judged.records()
    for record, name in zip(runs, NAMES, strict=False):
        record.metrics["validation"]["classes"]["labels"] = [name, name[::-1]]  # type: ignore[index]
    bad = replace(board, published=rows, findings=found, memory=memory, evaluation=evaluated)
    one = opened(replace(studies.page(runs[::3]), sections=list(sections.of(bad))), width=width)
    assert one.page.title().startswith("Leaderboard: ")
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    assert one.page.locator("script, style, img, iframe, object").count() == 3, "the page's own"
    for button in one.page.locator("[data-open]").all():
        button.click()
        assert one.page.locator("#details-body script, #details-body img").count() == 0
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        one.page.keyboard.press("Escape")


def test_answers_follow_the_filters(opened: Open, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FIRST", 2)
    of_rte = sum(panel.column.name == "rte" for panel in document.panels)
    assert of_rte <= 2 < len(document.panels)
    one = opened()
    said, fold = one.page.locator(".answers li:visible"), one.page.locator("#more-answers summary")
    written = said.all_inner_texts()
    assert len(written) == 2
    assert fold.inner_text() == f"{len(document.panels) - 2} more"
    one.at("data=rte")
    assert said.count() == of_rte
    assert all(text.startswith("rte ") for text in said.all_inner_texts())
    assert not fold.is_visible()
    one.page.click("#reset")
    assert said.all_inner_texts() == written
    assert fold.is_visible()
