"""The page's parts beside the scores: papers against ours, findings, what is beyond the score, memory by part."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from peftbench.results.report import render_findings, render_markdown, render_memory, render_papers
from peftbench.results.report.page import bars, by_class, chart, papers, sayings, sections
from peftbench.results.report.page.document import Axis, Bars, Chart, Mark, MarkedAxis
from peftbench.results.report.page.render import render
from peftbench.results.report.stats import Leaderboard
from peftbench.results.reproduction.answers import FAILS, CheckResult, ComparedInterval
from peftbench.results.reproduction.findings import Finding, Result
from tests.helpers import boards, judged, studies


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return judged.board()


def test_a_board_has_the_parts_that_it_has_something_for(board: Leaderboard) -> None:
    assert [one.id for one in sections.of(board)] == ["papers", "findings", "beyond", "memory"]
    assert not list(sections.of(boards.board(boards.made(0.5))))
    assert [one.id for one in sections.of(replace(board, findings=[], memory=[]))] == ["papers", "beyond"]


def test_papers_stand_beside_ours(board: Leaderboard) -> None:
    (part,) = [one for one in sections.of(board) if one.id == "papers"]
    (table,) = part.tables
    assert table.lines[1] == ["bitfit/table1_bert_large", "sst2", "93.7 ± 0.2", "91.20 [91.0, 91.4]", "5", "lower"]
    assert [line[-1] for line in table.lines] == ["reproduced", "lower", "higher", "no verdict"]
    facts = part.folded[1].lines
    assert "ours: 91.20 [91.0, 91.4], 5 seeds" in facts
    assert "departure: The batch size isn't printed." in facts
    assert any(line.startswith("lower: 95 % of true re-runs fall from") for line in facts)


def places(drawn: str, kind: str) -> list[float]:
    """Where the marks of a kind (`f1` is printed, `f0` ours) lie across."""
    return [float(x) for x in re.findall(rf'transform="translate\(([\d.]+) [\d.]+\)" class="mark {kind}"', drawn)]


def test_printed_and_ours_lie_on_one_axis(board: Leaderboard) -> None:
    (one,) = papers.charts(board.published)
    drawn = chart.picture(one)
    ElementTree.fromstring(drawn)
    printed, ours = places(drawn, "f1"), places(drawn, "f0")
    assert (len(printed), len(ours)) == (4, 3)
    values = [100 * row.expected.value for row in board.published]
    # One straight line from values to places.
    slope = (printed[0] - printed[2]) / (values[0] - values[2])
    for value, place in zip(values, printed, strict=True):
        assert place == pytest.approx(printed[0] + slope * (value - values[0]), abs=0.11)
    for row, place in zip(board.published[:3], ours, strict=True):
        assert place == pytest.approx(printed[0] + slope * (100 * row.verdict.value - values[0]), abs=0.11)
    for row in board.published:
        assert row.verdict.verdict in drawn


def test_rows_of_other_data_and_metrics_have_a_picture_of_their_own(board: Leaderboard) -> None:
    a, b, *rest = board.published
    other = replace(b, dataset="cola", expected=replace(b.expected, metric="matthews"))
    drawn = papers.charts([a, other, *rest])
    assert [(one.caption, one.axes[0].unit, len(one.axes[0].compared)) for one in drawn] == [
        ("cola: printed and ours", "matthews, %", 1),
        ("sst2: printed and ours", "accuracy, %", 3),
    ]


def test_a_band_may_have_no_end() -> None:
    compared = [MarkedAxis("a", [Mark("measured", "1 to 2", 1.5, (1, 2))], band=(0.5, float("inf")))]
    drawn = chart.picture(Chart("c", [Axis("ratio", compared)]))
    assert "inf" not in drawn
    (x, width) = map(float, re.findall(r'<rect x="([\d.]+)" y="17" width="([\d.]+)"', drawn)[0])
    assert x + width == pytest.approx(chart._RIGHT)


def test_findings_show_what_was_said_and_measured(board: Leaderboard) -> None:
    first, second, third = board.findings
    drawn = sayings.chart(first.name, first.result)
    assert drawn is not None
    assert [len(axis.compared) for axis in drawn.axes] == [1, 6, 1]
    assert drawn.axes[2].compared[0].band == (12, 20)
    assert sayings.chart(third.name, third.result) is None
    assert sayings.facts(third.result) == ["source: somebody", "needs 3 of its 9 runs"]
    assert len(sayings.facts(first.result)) == 1 + 8
    assert second.result.answer == "holds here"
    assert "said is at least 0.05" in sayings.facts(second.result)[1]


def test_each_comparison_has_its_own_answer() -> None:
    """One pair of three is apart: the other two are alike, or can't be told."""
    claimed = (-1.0, 1.0)
    pairs = {"a less b": (2.0, 3.0), "a less c": (0.5, 1.5), "b less c": (-0.5, 0.5)}
    compared = [ComparedInterval(pair, "x", interval, claimed) for pair, interval in pairs.items()]
    finding = Finding("they are alike", "somebody", 3, [])
    told = sayings.facts(Result(finding, FAILS, [CheckResult(FAILS, compared[0].numbers, compared)]))
    assert told == [
        "source: somebody",
        "doesn't hold here: a less b: 2 to 3; said is -1 to 1",
        "can't tell: a less c: 0.5 to 1.5; said is -1 to 1",
        "holds here: b less c: -0.5 to 0.5; said is -1 to 1",
    ]


def test_bars_are_as_long_as_their_parts() -> None:
    some = Bars("memory", [("a", {"weights_frozen": 300, "temporary": 100}), ("b", {"weights_frozen": 100})])
    assert bars.parts(some) == ["weights_frozen", "temporary"]
    root = ElementTree.fromstring(bars.picture(some))
    widths = {title.text: float(rect.get("width", "")) for rect in root.iter("rect") for title in rect.iter("title")}
    assert widths["a: frozen 0.0 MB"] == pytest.approx(3 * widths["a: temporary 0.0 MB"], abs=0.2)
    assert widths["a: frozen 0.0 MB"] == pytest.approx(3 * widths["b: frozen 0.0 MB"], abs=0.2)


def test_memory_is_shown_with_its_estimate(board: Leaderboard) -> None:
    by_method = {one.row[0]: one for one in board.memory}
    assert by_method["bitfit"].estimated is None
    largest = max(
        sum(record.efficiency["memory_parts_bytes"].values())  # type: ignore[index]
        for record in judged.records()
        if record.config["method"]["name"] == "full"
    )
    assert sum(by_method["full"].measured.values()) == largest
    (part,) = [one for one in sections.of(board) if one.id == "memory"]
    line = next(line for line in part.tables[0].lines if line[0] == "full")
    assert line[4] == f"{largest / 1e6:,.1f} (417.3)"
    assert line[3] == "64"
    assert "estimate records=" not in part.note
    without = [replace(one, estimated=None) for one in board.memory]
    assert "estimate records=" in sections.memory(replace(board, memory=without)).note


def test_the_markdown_has_them_with_pictures(board: Leaderboard) -> None:
    text = render_markdown.render(board)
    for heading in ("Papers against ours", "Findings", "Beyond the score", "Memory by part"):
        assert f"\n## {heading}\n" in text
    for module in (render_papers, render_findings, render_memory):
        assert f"]({module.FILE})" in text
        root = ElementTree.fromstring(module.render(board))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert module.render(boards.board(boards.made(0.5))) == ""
    assert "| price |" in re.sub(" +", " ", text)


def test_the_page_holds_them(board: Leaderboard) -> None:
    text = render(judged.page())
    for name in ("papers", "findings", "beyond", "memory"):
        assert f'<section id="{name}"' in text
        assert f'href="#{name}"' in text
    assert "tokens trained on" in text
    assert not re.search(r'\sstyle="|\son\w+="', text), "the policy would refuse these"


def test_classes_are_means_and_confusions_are_sums() -> None:
    runs = judged.records()[:3]
    made = by_class.classes(runs)
    assert made is not None
    assert made.confusion == [[390 + 391 + 392, 46 + 45 + 44], [46 + 45 + 44, 390 + 391 + 392]]
    assert made.classes[0].label == "negative"
    assert made.classes[0].f1 == pytest.approx((390 + 391 + 392) / 3 / 436)
    assert made.classes[1].n == 436


@pytest.mark.parametrize(
    "wrong",
    [None, {}, {"labels": ["a"]}, {"confusion": [[1, 2]]}, {"f1": [0.5]}, {"n": [1, "x"]}, {"labels": [1, 2]},
     {"precision": [0.5, float("inf")]}, {"confusion": [[1, -1], [1, 1]]}, {"confusion": [[10**18, 1], [1, 1]]}],
)  # fmt: skip
def test_classes_that_are_not_whole_are_not_shown(wrong: object) -> None:
    record = studies.record("lora", "sst2")
    whole = judged.classes(1, 2)
    split = record.metrics["validation"]
    assert split is not None
    split["classes"] = whole
    assert by_class.classes([record]) is not None
    split["classes"] = {**whole, **wrong} if isinstance(wrong, dict) and wrong else wrong
    assert by_class.classes([record]) is None


def test_a_confusion_of_many_classes_is_not_shown() -> None:
    record, names = studies.record("lora", "sst2"), [f"c{n}" for n in range(21)]
    split = record.metrics["validation"]
    assert split is not None
    split["classes"] = {"labels": names, **{k: [0.5] * 21 for k in ("precision", "recall", "f1")}, "n": [1] * 21,
                        "confusion": [[1] * 21] * 21}  # fmt: skip
    made = by_class.classes([record])
    assert made is not None
    assert (len(made.classes), made.confusion) == (21, None)
