"""What methods cost, and how much they over-fit, as tables in Markdown: one a question."""

from peftbench.results.report import layout, overfitting, score_tables
from peftbench.results.report.layout import number
from peftbench.results.report.score_tables import name_of
from peftbench.results.report.stats import Leaderboard, LeaderboardRow

#: By question: heading -> figure, format, factor.
_COSTS: dict[str, dict[str, tuple[str, str, float]]] = {
    "Parameters and memory": {
        "trained": ("params.trainable", "{:,.0f}", 1),
        "% of all": ("params.trainable", "{:.3f}", 100),
        "adapter": ("params.adapter", "{:,.0f}", 1),
        "head": ("params.head", "{:,.0f}", 1),
        "weights, MB": ("efficiency.weights_bytes", "{:,.1f}", 1e-6),
        "stored, kB": ("efficiency.adapter_bytes", "{:,.0f}", 1e-3),
        "peak memory, MB": ("efficiency.peak_memory_bytes", "{:,.0f}", 1e-6),
    },
    "Training": {
        "train, s": ("efficiency.train_time_s", "{:,.1f}", 1),
        "samples/s": ("efficiency.train_samples_per_s", "{:.1f}", 1),
        "tokens/s": ("efficiency.train_tokens_per_s", "{:,.0f}", 1),
        "a step": ("efficiency.train_step_base_forwards", "{:.2f}", 1),
    },
    "Inference, samples/s": {
        "as trained": ("efficiency.inference_samples_per_s", "{:,.1f}", 1),
        "merged": ("efficiency.inference_samples_per_s_merged", "{:,.1f}", 1),
        "base": ("efficiency.inference_samples_per_s_base", "{:,.1f}", 1),
    },
    "Hosted and prompted": {
        "price": ("efficiency.hosted_price", "{:,.4g}", 1),
        "questions": ("efficiency.hosted_questions", "{:,.0f}", 1),
        "tokens asked": ("efficiency.hosted_input_tokens", "{:,.0f}", 1),
        "answered": ("efficiency.hosted_output_tokens", "{:,.0f}", 1),
        "trained on": ("efficiency.hosted_trained_tokens", "{:,.0f}", 1),
        "job, h": ("efficiency.hosted_job_h", "{:,.2f}", 1),
    },
    "Latency, ms": {
        "as trained": ("efficiency.inference_latency_ms", "{:.2f}", 1),
        "merged": ("efficiency.inference_latency_ms_merged", "{:.2f}", 1),
        "base": ("efficiency.inference_latency_ms_base", "{:.2f}", 1),
        "times base": ("efficiency.inference_latency_ms", "{:.2f}", 1),
        "merged, times base": ("efficiency.inference_latency_ms_merged", "{:.2f}", 1),
    },
}
#: By the heading of a figure that is a ratio, what it is divided by. Both took turns: a busy machine slowed them alike.
_OVER = {
    "% of all": "params.total",
    "times base": "efficiency.inference_latency_ms_base",
    "merged, times base": "efficiency.inference_latency_ms_base",
}
_COST = """\
Of parameters, storage and memory the largest of a row's runs: tuning may choose
other sizes for another data set. Memory is the peak of training, in a process
of its own. Times and rates: medians over the runs that a busy machine didn't
slow (* it slowed all of them); rates leave evaluation and warm-up steps out.
What holds on any machine: a step, in forward passes of the plain base over the
same batch, and latency, times the base's.
"""


def costs(board: Leaderboard) -> str:
    """Weights, storage and speed: a table each."""
    named = layout.names(score_tables.order(board))
    parts = [layout.prose(_COST)]
    for heading, figures in _COSTS.items():
        lines = [
            [named.names[name_of(row)], row.model, *(_figure(row, name, *one) for name, one in figures.items())]
            for row in board.rows
        ]
        table = layout.by_model(list(figures), lines)
        parts += [f"### {heading}", table] if table else []
    return "\n\n".join(parts)


def _figure(row: LeaderboardRow, heading: str, name: str, form: str, factor: float) -> str:
    if heading not in _OVER:
        return score_tables.figure(row, name, form, factor)
    value, whole = row.figures.get(name), row.figures.get(_OVER[heading])
    return number(value / whole if value is not None and whole else None, form, factor)


def gaps(board: Leaderboard) -> str:
    """A table of how much better a method is on data that it was trained on, by data set."""
    named = layout.names(score_tables.order(board))
    lines = []
    for row in board.rows:
        found = [overfitting.gap(board.runs.get((name_of(row), column), [])) for column in board.columns]
        lines.append([named.names[name_of(row)], row.model, *map(overfitting.in_points, found)])
    return layout.by_model(board.columns, lines)
