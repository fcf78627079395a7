"""The leaderboard as Markdown, 80 columns wide: one table a question."""

from peftbench.results.records import RunRecord
from peftbench.results.report import (
    cost_tables,
    estimated,
    evaluation,
    forgetting,
    layout,
    overfitting,
    prompts,
    render_findings,
    render_forest,
    render_html,
    render_memory,
    render_papers,
    render_pareto,
    score_tables,
)
from peftbench.results.report.layout import number
from peftbench.results.report.page import sayings
from peftbench.results.report.score_tables import name_of
from peftbench.results.report.stats import Leaderboard
from peftbench.system import escape

FILE = "leaderboard.md"

_SUITES = """\
As the benchmarks average: a task's metrics first (of MNLI both evaluation
splits), then the tasks; on the official validation splits, as test labels are
hidden.
"""
_PAIRS = """\
The best of each table less the others, in points; p is adjusted for all pairs
of the table, and so asks for more than the mark = does, which asks of each row
alone whether it may be the best. Where p leaves two together: the seeds each,
or the examples, that would tell a difference of that size in four of five
studies.
"""
_WAYS = """\
The share of the way from the linear probe to full fine-tuning, in percent,
where these two can be told apart.
"""


def render(board: Leaderboard) -> str:
    """The whole file; the same text for the same records."""
    parts = ["# Leaderboard", layout.prose(score_tables.NOTE)]
    parts += _scores(board) if board.rows else ["No completed runs yet."]
    parts += _judged(board)
    if board.evaluation:
        parts += [
            "## Beyond the score",
            layout.prose(evaluation.NOTE),
            layout.tables(*evaluation.table(board.evaluation), left=3),
        ]
    if board.forgetting:
        asked = forgetting.lines(board.forgetting, layout.names(score_tables.order(board)).names)
        header, asked, left = layout.without_one_model(forgetting.COLUMNS, asked)
        parts += [
            "## What tuning made the model forget",
            layout.prose(forgetting.NOTE),
            layout.tables(header, asked, left=left + 2),
        ]
    if board.memory:
        named = layout.names(score_tables.order(board)).names
        header, compared, left = layout.without_one_model(*estimated.table(board.memory, named))
        parts += [
            f"## {estimated.HEADING}",
            layout.prose(estimated.NOTE),
            layout.tables(header, compared, left=left + 2),
        ]
        parts.append(f"![Memory by part, measured and estimated]({render_memory.FILE})")
    if board.soft_prompts:
        parts += [
            "## Soft prompts",
            layout.prose(prompts.NOTE),
            *(prompts.markdown(*prompt) for prompt in board.soft_prompts),
        ]
    if board.failed:
        parts += ["## Failed", "\n".join(_failure(record) for record in board.failed)]
    for heading, files in (("Not readable", board.unreadable), ("Doubtful", board.doubtful)):
        if files:
            lines = (f"- {escape.code(file)}: {escape.markdown(reason)}" for file, reason in files)
            parts += [f"## {heading}", "\n".join(lines)]
    for heading, texts in (
        ("Not applicable", board.not_applicable),
        ("Not compared", board.evidence.notes),
        ("Made on", board.machines),
        ("Footnotes", board.footnotes),
    ):
        if texts:
            parts += [f"## {heading}", layout.bullets(texts)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


#: Written beside this file by other renderers.
_PICTURES = f"""\
![Scores and their 95 % intervals, best first]({render_forest.FILE})

![Scores against trained parameters]({render_pareto.FILE})

`{render_html.FILE}`, beside this file, sorts, filters and opens every score.
"""


def _judged(board: Leaderboard) -> list[str]:
    """Published rows and findings that runs here are of."""
    parts = []
    if board.published:
        from peftbench.results.reproduction import table as published  # Brings SciPy and Hydra.

        parts += [f"## {published.HEADING}", published.markdown(board.published, render_papers.FILE)]
    if board.findings:
        rows = [[name, answer] for name, _, answer in sayings.lines(board.findings)]
        parts += [
            f"## {sayings.HEADING}",
            layout.prose(sayings.NOTE),
            layout.table(["finding", "answer"], rows, left=2),
        ]
        if render_findings.render(board):
            parts.append(f"![What was said, and what was measured]({render_findings.FILE})")
        for one in board.findings:
            parts.append(layout.paragraph(f"{one.name}: {one.result.finding.statement}"))
            parts.append(layout.bullets(sayings.facts(one.result)))
    return parts


def _scores(board: Leaderboard) -> list[str]:
    parts = ["## Scores", scores(board), _PICTURES]
    if len(board.columns) > 1 and any(row.mean is not None for row in board.rows):
        parts += ["## Mean over data sets", *score_tables.over_data_sets(board)]
    if named := layout.told(layout.names(score_tables.order(board))):
        parts += ["## Rows of the tables below", *named]
    if board.suites:
        parts += ["## Suites", layout.prose(_SUITES), *_suites(board)]
    if any(panel.pairs for panel in board.evidence.panels):
        parts += ["## Differences", layout.prose(_PAIRS), *_differences(board)]
    if any(share is not None for share in board.evidence.ways.values()):
        parts += ["## How far from the linear probe to full fine-tuning", layout.prose(_WAYS), *_ways(board)]
    if board.details:
        parts += ["## By metric", _details(board)]
    if gaps := cost_tables.gaps(board):
        parts += ["## Over-fitting", layout.prose(overfitting.NOTE), gaps]
    return [*parts, "## Cost", cost_tables.costs(board)]


def scores(board: Leaderboard) -> str:
    """A table for every data set and model."""
    return "\n\n".join(part for column in board.columns for part in score_tables.one_data_set(board, column))


def _differences(board: Leaderboard) -> list[str]:
    return [
        part
        for panel in board.evidence.panels
        if panel.pairs
        for part in (f"### {escape.markdown(_panel_name(panel.column, panel.model, panel.conditions))}",
                     score_tables.pairs(panel, score_tables.order(board)))
    ]  # fmt: skip


def _panel_name(column: str, model: str, conditions: str) -> str:
    return ", ".join(part for part in (column, model, conditions) if part)


def _ways(board: Leaderboard) -> list[str]:
    parts = []
    for column in board.columns:
        lines = score_tables.shares(board, column)
        if lines:
            parts += [f"### {escape.markdown(column)}", layout.by_model(["share, %", "95 % interval"], lines)]
    return parts


def _suites(board: Leaderboard) -> list[str]:
    """The rows that have a suite's average, and what the others lack for it, once for all that lack the same."""
    named = layout.names(score_tables.order(board))
    averages = list(board.suites.values())
    whole = [row for row in board.rows if any(by_row[name_of(row)].mean is not None for by_row in averages)]
    lines = [
        [named.names[name_of(row)], row.model, *(number(s[name_of(row)].mean, "{:.1f}", 100) for s in averages)]
        for row in whole
    ]
    lacks: dict[str, int] = {}
    for suite, by_row in board.suites.items():
        for one in by_row.values():
            if one.mean is None:
                text = f"{suite}, missing: {', '.join(one.missing)}"
                lacks[text] = lacks.get(text, 0) + 1
    notes = [f"{text} ({count} row{'s' if count != 1 else ''})" for text, count in lacks.items()]
    table = [layout.by_model(list(board.suites), lines)] if lines else []
    return [*table, *([layout.bullets(notes)] if notes else [])]


def _details(board: Leaderboard) -> str:
    """The metrics that a score is the mean of, further evaluation splits and data that are held out; of a single data
    set without its name."""
    named = layout.names(score_tables.order(board))
    lines = [
        [
            named.names[name_of(row)],
            row.model,
            *(score_tables.score(by_row.get(name_of(row))) for by_row in board.details.values()),
        ]
        for row in board.rows
    ]
    once = f"{board.columns[0]} " if len(board.columns) == 1 else ""
    return layout.by_model([heading.removeprefix(once) for heading in board.details], lines)


def _failure(record: RunRecord) -> str:
    config = record.config
    cell = f"{config['method']['name']} · {config['model']['name']} · {config['dataset']['name']}"
    what = escape.begin(f"{cell} · seed {config['seed']}: {record.status}, {record.error}")
    return f"- {what} (log: {escape.code(record.log)})"
