"""The leaderboard as Markdown."""

from collections.abc import Callable, Sequence

from peftbench.results.records import RunRecord
from peftbench.results.report import evaluation, forgetting, prompts
from peftbench.results.report.stats import Cell, Leaderboard, Row
from peftbench.system import escape

FILE = "leaderboard.md"

_MISSING = "–"
_NOTES = """\
Scores are percentages: the mean of a data set's metrics, then mean ± sample standard deviation over seeds (n of them).
{missing} is a cell without a completed run; rows with one have no mean and stand last. Trained parameters include the
task head. Memory is the peak of training in a process of its own; rates leave evaluation and warm-up steps out.
"""


def render(board: Leaderboard) -> str:
    """The whole file; the same text for the same records."""
    parts = ["# Leaderboard", _NOTES.format(missing=_MISSING)]
    if not board.rows:
        parts.append("No completed runs yet.")
    else:
        parts += ["## Scores", scores(board)]
        if board.suites:
            parts += ["## Suites", _SUITES, _suites(board)]
        if board.details:
            parts += ["## By metric", _details(board)]
        parts += ["## Cost", costs(board)]
    if board.evaluation:
        table = _table(*evaluation.table(board.evaluation), left=3)
        parts += ["## Beyond the score", evaluation.NOTE, table]
    if board.forgetting:
        table = _table(forgetting.COLUMNS, forgetting.lines(board.forgetting), left=4)
        parts += ["## What tuning made the model forget", forgetting.NOTE, table]
    if board.soft_prompts:
        parts += ["## Soft prompts", prompts.NOTE, *(prompts.markdown(*prompt) for prompt in board.soft_prompts)]
    if board.failed:
        parts += ["## Failed", "\n".join(_failure(record) for record in board.failed)]
    if board.not_applicable:
        parts += ["## Not applicable", _list(board.not_applicable)]
    for heading, files in (("Not readable", board.unreadable), ("Doubtful", board.doubtful)):
        if files:
            lines = (f"- {escape.code(file)}: {escape.markdown(reason)}" for file, reason in files)
            parts += [f"## {heading}", "\n".join(lines)]
    if board.machines:
        parts += ["## Made on", _list(board.machines)]
    if board.footnotes:
        parts += ["## Footnotes", _list(board.footnotes)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape.begin(line)}" for line in lines)


def scores(board: Leaderboard) -> str:
    """The table of scores, with what a method costs most visibly."""
    columns = [f"{c} ({board.metrics[c]})" for c in board.columns]
    mean = ["mean"] if len(board.columns) > 1 else []
    header = ["method", "model", *columns, *mean, "trained", "% of all", "peak memory, MB", "samples/s"]
    lines = []
    for row in board.rows:
        total, trained = row.figures.get("params.total"), row.figures.get("params.trainable")
        share = 100 * trained / total if total and trained is not None else None
        lines.append(
            [
                _name(row),
                row.model,
                *(_cell(row.cells[c]) for c in board.columns),
                *([_number(row.mean, "{:.1f}", 100)] if mean else []),
                _number(trained, "{:,.0f}"),
                _number(share, "{:.3f}"),
                _number(row.figures.get("efficiency.peak_memory_bytes"), "{:,.0f}", 1e-6),
                _number(row.figures.get("efficiency.train_samples_per_s"), "{:.1f}"),
            ]
        )
    return _table(header, lines, left=2)


_SUITES = """\
As the benchmarks average: a task's metrics first (of MNLI both evaluation splits), then the tasks; on the official
validation splits, as test labels are hidden.
"""


def _suites(board: Leaderboard) -> str:
    """A row's average of every suite, or what it lacks for it."""
    lines = []
    for row in board.rows:
        averages = [by_row[row.method, row.model, row.variant] for by_row in board.suites.values()]
        lines.append(
            [
                _name(row),
                row.model,
                *(
                    f"missing: {', '.join(suite.missing)}" if suite.mean is None else f"{100 * suite.mean:.1f}"
                    for suite in averages
                ),
            ]
        )
    return _table(["method", "model", *board.suites], lines, left=2)


def _details(board: Leaderboard) -> str:
    """The metrics that a score is the mean of, and further evaluation splits."""
    lines = [
        [
            _name(row),
            row.model,
            *(_cell(of.get((row.method, row.model, row.variant))) for of in board.details.values()),
        ]
        for row in board.rows
    ]
    return _table(["method", "model", *board.details], lines, left=2)


#: Heading -> figure, format, factor.
_COSTS: dict[str, tuple[str, str, float]] = {
    "adapter": ("params.adapter", "{:,.0f}", 1),
    "head": ("params.head", "{:,.0f}", 1),
    "weights, MB": ("efficiency.weights_bytes", "{:,.1f}", 1e-6),
    "stored, kB": ("efficiency.adapter_bytes", "{:,.0f}", 1e-3),
    "train, s": ("efficiency.train_time_s", "{:,.1f}", 1),
    "tokens/s": ("efficiency.train_tokens_per_s", "{:,.0f}", 1),
    "inference, samples/s": ("efficiency.inference_samples_per_s", "{:.1f}", 1),
    "the same, merged": ("efficiency.inference_samples_per_s_merged", "{:.1f}", 1),
    "the same, base": ("efficiency.inference_samples_per_s_base", "{:.1f}", 1),
    "latency, ms": ("efficiency.inference_latency_ms", "{:.2f}", 1),
    "latency merged": ("efficiency.inference_latency_ms_merged", "{:.2f}", 1),
    "latency base": ("efficiency.inference_latency_ms_base", "{:.2f}", 1),
    "train − eval": ("gap", "{:+.1f}", 100),
}


def costs(board: Leaderboard) -> str:
    """Weights, storage, speed, and the gap between the scores on training and on evaluation data."""
    lines = [
        [_name(row), row.model, *(_number(row.figures.get(name), form, by) for name, form, by in _COSTS.values())]
        for row in board.rows
    ]
    return _table(["method", "model", *_COSTS], lines, left=2)


def _name(row: Row) -> str:
    return f"{row.method} ({row.variant})" if row.variant else row.method


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return _MISSING
    spread = f" ± {100 * cell.std:.1f}" if cell.std is not None else ""
    return f"{100 * cell.mean:.1f}{spread} (n={cell.n})"


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return _MISSING if value is None else form.format(value * factor)


def _failure(record: RunRecord) -> str:
    config = record.config
    cell = f"{config['method']['name']} · {config['model']['name']} · {config['dataset']['name']}"
    what = escape.begin(f"{cell} · seed {config['seed']}: {record.status}, {record.error}")
    return f"- {what} (log: {escape.code(record.log)})"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> str:
    """A Markdown table padded to line up as plain text too; the first `left` columns to the left."""
    escaped = [[escape.table_cell(cell) for cell in line] for line in [header, *lines]]
    widths = [max(len(line[i]) for line in escaped) for i in range(len(header))]

    def justify(i: int) -> Callable[[str], str]:
        return lambda text: text.ljust(widths[i]) if i < left else text.rjust(widths[i])

    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    rows = [[justify(i)(cell) for i, cell in enumerate(line)] for line in escaped]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])
