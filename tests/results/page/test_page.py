"""The page as a file: its policy, its size, its pictures, its sentences."""

import base64
import hashlib
import itertools
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from peftbench.results.report import stats
from peftbench.results.report.load import Results
from peftbench.results.report.page import data, forest, pareto, standalone, words
from peftbench.results.report.page.costs import COSTS
from peftbench.results.report.page.document import Column, Document, MeanWithInterval, PagePanel, PageRow
from peftbench.results.report.page.render import render
from tests.helpers import studies

EMPTY = Document(columns=[], rows=[])


def test_the_policy_lets_in_this_script_and_this_style_alone(document: Document) -> None:
    page = render(document)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy[1].replace("&#39;", "'").split(";"))
    assert directives["default-src"] == "'none'"
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(contents) == 1
        assert (
            directives[name] == f"'sha256-{base64.b64encode(hashlib.sha256(contents[0].encode()).digest()).decode()}'"
        )
    assert not re.search(r'\sstyle="|\son\w+="', page), "the policy would refuse these"
    links = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}


def test_the_page_itself_is_small(document: Document) -> None:
    assert len(render(EMPTY).encode()) < 60_000
    assert "No completed runs yet." in render(EMPTY)
    # What a cell costs: half a megabyte for a hundred and fifty cells.
    cells = sum(len(row.cells) for row in document.rows)
    assert (len(render(document).encode()) - len(render(EMPTY).encode())) / cells < 12_000


def test_the_same_records_make_the_same_page() -> None:
    records = [studies.record(method, "sst2", seed=seed) for method in ("lora", "full") for seed in (0, 1)]
    pages = set()
    for seed in range(4):
        shuffled = random.Random(seed).sample(records, len(records))
        pages.add(render(data.document(stats.leaderboard(Results(shuffled)))))
    assert len(pages) == 1


def test_the_data_is_what_the_records_say(document: Document) -> None:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', render(document), re.DOTALL)
    assert text is not None
    board = json.loads(text[1])
    assert [row["name"] for row in board["rows"]] == [row.name for row in document.rows]
    row, shown = document.rows[0], board["rows"][0]
    assert shown["costs"]["memory"] == pytest.approx(1240)
    assert shown["costs"]["share"] == pytest.approx(100 * 22_713_986 / 22_731_674, rel=1e-5)
    for column, cell in row.cells.items():
        assert shown["cells"][column]["score"][0] == pytest.approx(cell.score.mean, rel=1e-5)
        assert [run[3] for run in shown["cells"][column]["runs"]] == [run.key for run in cell.runs]


def test_what_differs_stands_in_the_cells_and_the_rest_is_said_once(document: Document) -> None:
    assert document.shared["recipe.batch_size"] == "32"
    lora = [row for row in document.rows if row.method == "lora" and row.model == "minilm"]
    ranks = {cell.settings["method.adapter.r"] for row in lora for cell in row.cells.values()}
    assert ranks == {"2", "4", "8", "16"}
    for row in document.rows:
        for cell in row.cells.values():
            assert not cell.settings.keys() & document.shared.keys()


@pytest.mark.parametrize("draw", [standalone.intervals, standalone.costs])
def test_pictures_are_files_of_their_own(document: Document, draw: object) -> None:
    assert callable(draw)
    text = draw(document)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == len(document.panels)
    assert "var(" not in text
    assert not re.search(r"href|url\(|<script|@import", text)
    ElementTree.fromstring(draw(EMPTY))


def test_a_picture_says_that_its_intervals_are_of_seeds_alone(document: Document) -> None:
    crossed = replace(document, panels=[_seeds_alone(panel, False) for panel in document.panels])
    assert "of other seeds alone" not in standalone.intervals(crossed)
    alone = replace(document, panels=[_seeds_alone(document.panels[0], True)])
    assert standalone.intervals(alone).count("of other seeds alone") == 1


def _seeds_alone(panel: PagePanel, alone: bool) -> PagePanel:
    cells = [{c: replace(cell, seeds_alone=alone) for c, cell in row.cells.items()} for row in panel.rows]
    return replace(panel, rows=[replace(row, cells=own) for row, own in zip(panel.rows, cells, strict=True)])


def test_the_front_is_what_nothing_beats() -> None:
    draw = random.Random(0)
    for _ in range(100):
        places = [(draw.randint(0, 9) / 1, draw.randint(0, 9) / 1) for _ in range(12)]
        best = {
            (x, y)
            for x, y in places
            if not any((a <= x and b <= y) and (a, b) != (x, y) for a, b in places)
        }  # fmt: skip
        assert set(pareto.front(places)) == best


def test_names_of_the_front_meet_no_point_and_no_name() -> None:
    assert pareto.spots([(200, 60, "pfeiffer"), (216, 52, "houlsby")]) == [(-1, -4), (1, 14)]
    assert pareto.spots([(46, 100, "linear_probe")]) == [(1, 14)]  # There is no room on the left.
    draw = random.Random(0)
    for _ in range(200):
        best = pareto.front([(draw.uniform(150, 300), draw.uniform(30, 160)) for _ in range(3)])
        named = [(x, y, "lora") for x, y in best]
        boxes = [pareto.box(*one, spot) for one, spot in zip(named, pareto.spots(named), strict=True)]
        markers = [(x - 4, y - 4, x + 4, y + 4) for x, y in best]
        for place, one in enumerate(boxes):
            assert not any(pareto.meet(one, other) for other in (*boxes[:place], *markers))


def test_a_busy_machine_is_in_no_picture_of_speed(document: Document) -> None:
    panel = document.panels[0]
    why = {"efficiency.train_time_s": "had 35 % of its cores"}
    busy = [replace(r, cells={c: replace(cell, busy=why) for c, cell in r.cells.items()}) for r in panel.rows]
    slow = replace(panel, rows=busy)
    time, memory = (next(cost for cost in COSTS if cost.id == name) for name in ("time", "memory"))
    assert pareto.panel(document, panel, time) is not None
    assert pareto.panel(document, slow, time) is None
    assert pareto.panel(document, slow, memory) is not None
    page = render(replace(document, rows=[replace(row, busy=why) for row in document.rows]))
    assert 'title="had 35 % of its cores"' in page


def test_one_row_at_chance_does_not_press_the_others_together(document: Document) -> None:
    panel = document.panels[2]
    column, rows = panel.column, panel.rows
    spread = []
    for lowest in (0.8, 0.1):
        cell = replace(rows[-1].cells[column.id], score=MeanWithInterval(lowest))
        some = [*rows[:6], replace(rows[-1], cells={column.id: cell})]
        drawn = forest.panel(document, replace(panel, rows=some))
        marks = [float(x) for x in re.findall(r'transform="translate\(([\d.]+) 11\.0\)" class="mark', drawn)]
        assert len(marks) == (7 if lowest == 0.8 else 6)
        assert drawn.count("l-6 4l6 4") == 7 - len(marks)
        spread.append(max(marks) - min(marks[:6]))
    assert spread[1] > spread[0] / 3


def sentence(document: Document, number: int = 0) -> str:
    return words.answers(document)[number].text


def test_the_answer_says_no_more_than_was_tested(document: Document) -> None:
    panel = document.panels[0]
    column, rows = panel.column, panel.rows
    full = next(row for row in rows if row.method == "full")

    def judged(**tied: bool | None) -> Document:
        cells = {
            row.id: replace(row.cells[column.id], tied=tied.get(row.method, False)) for row in rows
        }  # fmt: skip
        return said([replace(row, cells={column.id: cells[row.id]}) for row in rows])

    def said(some: list[PageRow]) -> Document:
        return replace(document, panels=[replace(panel, rows=some)])

    best = rows[0].method
    assert "is best of 9 methods, and every other is worse by more than noise" in sentence(judged(**{best: True}))
    text = sentence(judged(**{best: True}, full=True, bitfit=True))
    assert "is best; full and bitfit can't be told from it." in text
    assert "Of these bitfit trains the least, 0.12 % of the parameters" in text
    assert f"{838 / 1033:.2f} times the peak memory of lora" in text
    untested = [replace(r, cells={column.id: replace(r.cells[column.id], tied=None)}) for r in rows]
    assert "whether it is better wasn't tested" in sentence(said(untested))
    assert "the only method" in sentence(said([full]))
    assert text.startswith(f"{column.name} with minilm, 5 seeds: {rows[0].name} 36.")


def test_of_many_answers_the_surest_come_first(document: Document) -> None:
    few = [replace(panel, rows=panel.rows[:1]) for panel in document.panels[:1] * words.FIRST]
    many = replace(document, panels=[*few, document.panels[0]])
    first, *rest = words.answers(many)
    assert first.text == sentence(document)
    assert all("the only method" in one.text for one in rest)
    assert f"<summary>{len(rest) + 1 - words.FIRST} more</summary>" in render(many)


def test_sweeps_are_drawn_by_what_varied(document: Document) -> None:
    (sweep,) = document.sweeps
    assert sweep.setting == "method.adapter.r"
    (series,) = sweep.series
    assert list(series.at) == [2, 4, 8, 16]
    assert series.name == "lora · minilm"


def test_two_settings_that_vary_make_a_line_each() -> None:
    changes = [
        {"method.adapter.r": rank, "recipe.train_samples": n} for rank, n in itertools.product((2, 8), (100, 900))
    ]
    records = [studies.record("lora", "sst2", overrides=change) for change in changes]
    made = data.document(stats.leaderboard(Results(records)))
    by_setting = {one.setting: one for one in made.sweeps}
    assert set(by_setting) == {"method.adapter.r", "recipe.train_samples"}
    assert [list(series.at) for series in by_setting["recipe.train_samples"].series] == [[100, 900], [100, 900]]
    assert [len(series.rows) for series in by_setting["method.adapter.r"].series] == [2, 2]
    # A scale that follows the rank is no second picture.
    follow = [{"method.adapter.r": r, "method.adapter.lora_alpha": 2 * r} for r in (2, 4, 8)]
    made = data.document(stats.leaderboard(Results([studies.record("lora", "sst2", overrides=o) for o in follow])))
    assert [one.setting for one in made.sweeps] == ["method.adapter.r"]


def parts(panel: PagePanel) -> tuple[Column, str, list[PageRow]]:
    return panel.column, panel.model, list(panel.rows)


def test_a_panel_is_a_data_set_with_a_model() -> None:
    made = studies.page([studies.record(m, d, model) for m in ("lora", "full") for d in ("sst2", "rte")
                         for model in ("minilm", "tiny_bert")])  # fmt: skip
    assert [(column.name, model, len(rows)) for column, model, rows in map(parts, made.panels)] == [
        ("rte", "minilm", 2), ("rte", "tiny_bert", 2), ("sst2", "minilm", 2), ("sst2", "tiny_bert", 2),
    ]  # fmt: skip
    assert isinstance(made.columns[0], Column)
    assert isinstance(made.rows[0].cells[made.columns[0].id].score, MeanWithInterval)


def test_pictures_are_of_what_compares_something_first(document: Document) -> None:
    panel = document.panels[0]
    single = replace(panel, rows=panel.rows[:1])
    few = replace(document, panels=[single, panel])
    assert few.pictured == [panel, single]
    many = replace(document, panels=[*[single] * 30, panel])
    assert len(many.pictured) == 24
    assert many.pictured[0] is panel


@pytest.mark.parametrize(("percent", "text"), [(100.0, "100"), (0.327, "0.33"), (9.96, "10"), (12.3, "12")])
def test_a_share_has_two_digits_that_count(percent: float, text: str) -> None:
    assert words._figure(percent) == text
