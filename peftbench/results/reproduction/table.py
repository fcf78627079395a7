"""Papers against ours: rows as text, for the terminal, and as a Markdown table for reports."""

from collections.abc import Sequence

from peftbench.config.expected import ExpectedConfig
from peftbench.results.report import layout
from peftbench.results.reproduction.judge import Verdict
from peftbench.results.reproduction.match import JudgedRow

HEADING = "Papers against ours"
NOTE = """\
Published rows beside the runs made here, by the paper's own statistic. reproduced: within d, by equivalence (TOST);
compatible: within the 95 % prediction interval of a re-run; lower, higher: outside of it; no verdict: something that a
verdict needs isn't there. In the picture the band is that prediction interval; a printed value has its printed spread,
ours its 95 % interval over seeds.
"""
#: The table's headings; what decides a verdict and how the runs depart stands in `facts`.
SHORT = ("row", "data set", "printed", "ours", "seeds", "verdict")


def short(rows: Sequence[JudgedRow]) -> list[list[str]]:
    """A table's lines, under `SHORT`."""
    return [
        [
            row.experiment,
            row.dataset,
            "" if row.expected is None else printed(row.expected),
            ours(row.verdict),
            str(row.verdict.seeds),
            row.verdict.verdict,
        ]
        for row in rows
    ]


def facts(row: JudgedRow) -> list[str]:
    """The facts that stand beside a verdict, a sentence each: the claim and its source, what decides, what would,
    departures."""
    lines = (
        [] if row.expected is None else [f"claim: {printed(row.expected)}, {_of(row.expected)} ({row.expected.source})"]
    )
    if row.verdict.value is not None:
        lines.append(f"ours: {ours(row.verdict)}, {_seeds(row.verdict.seeds)}")
    lines.append(f"{row.verdict.verdict}: {deciding(row.verdict)}")
    if row.verdict.seeds_needed is not None:
        lines.append(f"needs {_seeds(row.verdict.seeds_needed)} for {_aim(row.verdict)}")
    return [*lines, *(f"departure: {sentence}" for sentence in row.departures)]


def markdown(rows: Sequence[JudgedRow], picture: str) -> str:
    """The table, the picture (a file's name), and below it what decides each row."""
    seeds = SHORT.index("seeds")  # They stand below: a line fits a page without them.
    header, *lines = ([*line[:seeds], *line[seeds + 1 :]] for line in (SHORT, *short(rows)))
    parts = [NOTE, layout.table(header, lines, left=2), f"![Printed values and ours, with intervals]({picture})"]
    for row in rows:
        parts += [layout.paragraph(f"{row.experiment}, {row.dataset}:"), layout.bullets(facts(row))]
    return "\n\n".join(parts)


def detail(row: JudgedRow) -> str:
    """All that is known of one row, for the terminal."""
    parts = [f"{row.experiment}, {row.dataset}"]
    if row.expected is not None:
        parts[0] += f": {row.expected.source}"
        parts.append(f"  claim    {printed(row.expected)}, {_of(row.expected)}")
    if row.verdict.value is not None:
        parts.append(f"  ours     {ours(row.verdict)}, {_seeds(row.verdict.seeds)}")
    parts.append(f"  verdict  {row.verdict.verdict}")
    parts.append(f"  because  {deciding(row.verdict)}")
    if row.verdict.seeds_needed is not None:
        parts.append(f"  needs    {_seeds(row.verdict.seeds_needed)} for {_aim(row.verdict)}")
    parts += [f"  - {sentence}" for sentence in row.departures]
    return "\n".join(parts)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _aim(verdict: Verdict) -> str:
    return "a verdict" if verdict.verdict == "no verdict" else "`reproduced`, at this distance and spread"


def printed(expected: ExpectedConfig) -> str:
    """The printed figure, in percent, with its spread."""
    digits = _digits(expected)
    spread = "" if expected.spread is None else f" ± {100 * expected.spread:.{digits}f}"
    kind = " (IQR)" if expected.spread_kind == "iqr" else ""
    return f"{100 * expected.value:.{digits}f}{spread}{kind}"


def _digits(expected: ExpectedConfig) -> int:
    """The number of decimals of a percentage that the paper prints, two at the most."""
    return next((n for n in (0, 1) if expected.rounding >= 0.0049 * 10**-n), 2)


def _of(expected: ExpectedConfig) -> str:
    """A description of the printed figure: its statistic, metric, split and selection."""
    seeds = "an unknown number of seeds" if expected.seeds is None else f"{expected.seeds} seeds"
    statistic = f"{expected.statistic or 'unknown statistic'} of {seeds}" if expected.seeds != 1 else "one seed"
    metric = f"{expected.metric or 'an unknown metric'} on {expected.split or 'an unknown split'}"
    return f"{statistic}; {metric}; selection: {expected.selection or 'unknown'}"


def ours(verdict: Verdict) -> str:
    """Our statistic in percent with its interval."""
    if verdict.value is None:
        return ""
    interval = verdict.interval
    bounds = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * verdict.value:.2f}{bounds}"


def deciding(verdict: Verdict) -> str:
    """The grounds that decide a verdict, in a sentence."""
    if verdict.reasons:
        return "; ".join(verdict.reasons)
    if verdict.exact:
        return "every score is the record's, to the last bit, on the same kind of processor"
    assert verdict.predicted is not None
    assert verdict.deviation is not None
    low, high = (f"{100 * bound:.2f}" for bound in verdict.predicted)
    spread = f"deviation {100 * verdict.deviation:.2f}, {verdict.basis}"
    within = "" if verdict.smallest_d is None else f"; equivalence can be shown within {100 * verdict.smallest_d:.2f}"
    d = "" if verdict.d is None else f", d is {100 * verdict.d:.2f}"
    return f"95 % of true re-runs fall from {low} to {high} ({spread}){within}{d}"
