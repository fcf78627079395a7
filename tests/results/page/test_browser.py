"""The page in headless Chromium: what a reader does with it."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.results.report.page.document import Document
from tests.results.page.conftest import Opened

Open = Callable[..., Opened]


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(",", "")) for text in texts if text != "–"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_any_screen_and_is_accessible(opened: Open, width: int, scheme: str) -> None:
    one = opened(width=width, scheme=scheme)
    one.check_fits(width)
    light = one.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_table_that_is_wider_than_the_screen_scrolls_by_itself(opened: Open, document: Document, width: int) -> None:
    """What is said to screen readers of a busy machine, in the last columns too, makes the page no wider."""
    from dataclasses import replace

    rows = [replace(row, busy=dict.fromkeys(row.figures, "had 35 % of its cores")) for row in document.rows]
    one = opened(replace(document, rows=rows), width=width)
    one.page.click("#menu-cols summary")
    for box in one.page.locator("#menu-cols input").all():
        box.check()
    one.page.keyboard.press("Escape")
    assert one.page.locator("#table td .hidden").count() > len(rows)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width


def test_sorting(opened: Open) -> None:
    one = opened()
    head = one.page.get_by_role("columnheader", name="peak memory, MB").first
    ranked = one.names()
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers(one.column("peak memory, MB")) == sorted(numbers(one.column("peak memory, MB")), reverse=True)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(one.column("peak memory, MB")) == sorted(numbers(one.column("peak memory, MB")))
    one.page.get_by_role("columnheader", name="method").first.get_by_role("button").click()
    assert one.names() == sorted(one.names())
    one.page.get_by_role("columnheader", name="cola").get_by_role("button").click()
    scores = one.column("cola")
    assert "–" in scores
    assert scores == sorted(scores, key=lambda text: (text == "–", -float(text) if text != "–" else 0))
    one.page.click("#reset")
    assert one.names() == ranked
    assert one.view() == ""


def test_filters(opened: Open, document: Document) -> None:
    one = opened()
    page = one.page
    page.fill("#method", "lora, b*fit")
    assert {name.split(" ")[0] for name in one.names()} == {"lora", "bitfit"}
    page.fill("#method", "")
    page.click("#menu-model summary")
    page.check('#menu-model input[value="tiny_bert"]')
    assert sorted(one.names()) == ["bitfit", "full", "lora"]
    page.uncheck('#menu-model input[value="tiny_bert"]')
    page.click("#menu-family summary")
    page.check('#menu-family input[value="selective"]')
    assert set(one.names()) == {"bitfit"}
    page.uncheck('#menu-family input[value="selective"]')
    page.click("#menu-data summary")
    page.check('#menu-data input[value="rte"]')
    assert len(one.names()) == 9
    assert page.locator("#table thead th:visible", has_text="sst2").count() == 0
    page.uncheck('#menu-data input[value="rte"]')
    page.select_option("#metric", "matthews")
    assert page.locator("#table thead th:visible", has_text="accuracy").count() == 0
    assert len(one.names()) == 9
    page.select_option("#metric", "")
    assert len(one.names()) == len(document.rows)
    assert page.inner_text("#status") == f"{len(document.rows)} of {len(document.rows)} rows"


def test_budgets_leave_out_what_does_not_fit_and_what_is_not_known(opened: Open, document: Document) -> None:
    from dataclasses import replace

    first, second, *rest = document.rows
    unknown = replace(first, figures={**first.figures, "efficiency.peak_memory_bytes": None})
    one = opened(
        replace(
            document,
            rows=[unknown, replace(second, busy={"efficiency.inference_latency_ms": "had 35 % of its cores"}), *rest],
        )
    )
    page = one.page
    page.click("#menu-budget summary")
    page.fill("#budget-memory", "1000")
    memory = numbers(one.column("peak memory, MB"))
    assert memory
    assert max(memory) <= 1000
    assert "1 left out" in page.inner_text("#status")
    page.fill("#budget-memory", "")
    page.fill("#budget-latency", "9")
    assert "1 left out" in page.inner_text("#status")
    assert max(numbers(one.column("latency, ms"))) <= 9
    page.fill("#budget-trained", "1000")
    assert one.names() == ["linear_probe"]


def test_a_study_is_chosen_and_what_it_has_nothing_of_goes(opened: Open, document: Document) -> None:
    from dataclasses import replace

    first, *rest = document.rows
    kept = document.columns[0]
    alone = replace(first, study="small", cells={kept.id: first.cells[kept.id]})
    one = opened(replace(document, rows=[alone, *(replace(row, study="large") for row in rest)]))
    page = one.page
    assert set(one.column("study")) == {"small", "large"}
    page.click("#menu-study summary")
    page.check('#menu-study input[value="small"]')
    assert len(one.names()) == 1
    heads = page.locator("#table thead th:visible").all_inner_texts()
    assert [column.name for column in document.columns if any(head.startswith(column.name) for head in heads)] == [
        kept.name
    ]
    assert one.view() == "study=small"
    page.click("#reset")
    assert len(one.names()) == len(document.rows)
    assert len(page.locator("#table thead th:visible").all_inner_texts()) > len(heads)
    assert len(one.at("study=gone").names()) == len(document.rows), "a link of another day"


def test_columns_are_chosen(opened: Open) -> None:
    one = opened()
    page = one.page
    page.click("#menu-cols summary")
    page.check('#menu-cols input[value="stored"]')
    page.uncheck('#menu-cols input[value="memory"]')
    heads = page.locator("#table thead th:visible").all_inner_texts()
    assert "stored a task, kB" in heads
    assert "peak memory, MB" not in heads


def test_a_cell_opens_to_its_details(opened: Open, document: Document) -> None:
    one = opened()
    page = one.page
    row = next(row for row in document.rows if row.method == "prompt")
    column = document.columns[0]
    button = page.locator(f'[data-open="{row.id}.{column.id}"]')
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"prompt on {column.name}")
    text = dialog.inner_text()
    cell = row.cells[column.id]
    for run in cell.runs:
        assert run.key in text
    assert "still be improving" in text
    assert "on these very examples" in text
    assert cell.command is not None
    assert cell.command in text
    assert dialog.locator("svg.curve").count() == 1
    assert page.evaluate("document.activeElement.id") == "details-title"
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert button.evaluate("button => button === document.activeElement")


def test_a_link_shows_the_same_view(opened: Open) -> None:
    one = opened()
    page = one.page
    page.fill("#method", "l*, full")
    page.click("#menu-data summary")
    page.check('#menu-data input[value="sst2"]')
    page.click("#menu-budget summary")
    page.fill("#budget-memory", "1100")
    page.click("#menu-cols summary")
    page.uncheck('#menu-cols input[value="latency"]')
    page.get_by_role("columnheader", name="sst2").get_by_role("button").click()
    page.select_option("#cost", "memory")
    page.click("#theme")
    page.locator("#table [data-open]:visible").first.click()
    before = (one.names(), page.locator("#table thead th:visible").all_inner_texts(), page.inner_text("#details-title"))
    view = one.view()
    other = opened(width=1280)
    other.at(view)
    after = (other.names(), other.page.locator("#table thead th:visible").all_inner_texts(),
             other.page.inner_text("#details-title"))  # fmt: skip
    assert after == before
    assert len(before[0]) > 1
    assert other.page.input_value("#budget-memory") == "1100"
    assert other.page.input_value("#cost") == "memory"
    assert other.page.get_attribute("html", "data-theme") == "dark"
    assert other.page.locator("#pareto figure:visible").count() == 2
    assert other.view() == view


@pytest.mark.parametrize(
    "view",
    ["open=__proto__.constructor", "metric=__proto__", "cost=nothing", "sort=nothing:asc", "cols=x", "max-memory=x",
     "data=elsewhere", "method=" + "*a" * 5000, "scores", "%", "open=<script>alert(1)</script>"],
)  # fmt: skip
def test_a_link_to_what_is_not_there_breaks_nothing(opened: Open, view: str) -> None:
    one = opened().at(view)
    assert one.page.locator("#table").count() == 1
    one.page.click("#reset")
    assert len(one.names()) > 1


def test_what_is_shown_is_saved_as_csv(opened: Open, document: Document, tmp_path: Path) -> None:
    one = opened()
    one.page.fill("#method", "full, dora")
    with one.page.expect_download() as download:
        one.page.click("#csv")
    download.value.save_as(tmp_path / "view.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "view.csv").read_text(encoding="utf-8"))))
    assert [row["method"] for row in rows] == [name.split(" ")[0] for name in one.names()]
    first = next(row for row in document.rows if row.method == "full")
    cell = first.cells[next(column.id for column in document.columns if column.name == "sst2")]
    assert float(rows[0]["sst2_score_mean"]) == pytest.approx(cell.score.mean, rel=1e-5)
    assert cell.score.interval is not None
    assert float(rows[0]["sst2_score_low"]) == pytest.approx(cell.score.interval[0], rel=1e-5)
    assert rows[0]["sst2_seeds"] == "5"
    assert float(rows[0]["peak memory, MB"]) == 1240


def test_light_and_dark_can_be_chosen(opened: Open) -> None:
    one = opened(scheme="dark")
    page = one.page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    page.click("#theme")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.click("#theme")
    assert page.evaluate(ground) == dark


def test_pictures_follow_the_filters(opened: Open, document: Document) -> None:
    one = opened()
    page = one.page
    drawn = page.locator("#pareto svg").evaluate_all("all => all.map(svg => svg.outerHTML)")
    page.fill("#method", "full, ia3, prompt")
    forest = page.locator("#forest figure:visible svg").first
    assert forest.locator("[data-row]:visible").count() == 3
    places = forest.locator("[data-row]:visible").evaluate_all("all => all.map(mark => mark.getAttribute('transform'))")
    assert places == [f"translate(0 {26 + 22 * place})" for place in range(3)]
    assert forest.get_attribute("viewBox") == "0 0 360 96"
    on = page.locator("#pareto figure:visible").first.locator(".point.on:visible title")
    assert [re.split("[: ]", text)[0] for text in on.all_text_contents()] != []
    assert page.locator("#pairs table:visible").first.locator("tbody tr:visible").count() == 3
    assert page.locator("#curves figure:visible").count() == 3
    page.fill("#method", "")
    # The script's front, of all rows, is the one that was drawn.
    again = page.locator("#pareto figure:visible svg").evaluate_all("all => all.map(svg => svg.outerHTML)")
    clean = [text.replace(' class="gone"', "") for text in again]
    assert all(text in drawn for text in clean)
    page.select_option("#cost", "merged")
    assert all("merged" in text for text in page.locator("#pareto figcaption:visible").all_inner_texts())


def test_by_keyboard_and_on_paper(opened: Open) -> None:
    one = opened()
    page = one.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "scores"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "method"
    page.focus("#menu-data summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert "data=cola" in one.view()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.parentElement.id") == "menu-data"
    page.emulate_media(media="print")
    assert not page.is_visible("#controls")
    assert page.is_visible("#table")


def test_without_a_script_the_page_is_read_all_the_same(opened: Open, browser: object, document: Document) -> None:
    one = opened()
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(one.url)
    assert page.locator("#table tbody tr").count() == len(document.rows)
    assert not page.is_visible("#controls")
    assert page.is_visible("#forest svg")
    context.close()
