"""`peftbench advise`: which method for a task: what fits by estimate, what records say of it, and what isn't known."""

import re
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peftbench.config import paths
from peftbench.config.arguments import config_dirs
from peftbench.config.compose import canonical
from peftbench.config.types import RunConfig
from peftbench.data import own_files
from peftbench.errors import ConfigError
from peftbench.results.report import certainty
from peftbench.results.report.layout import WIDTH
from peftbench.sweep import advice, budget, estimation
from peftbench.sweep.advice import NEAR, ComparableRuns, MethodRuns
from peftbench.sweep.cells import plan
from peftbench.sweep.estimation import Options, RunEstimate
from peftbench.system import process

_WORDS = ("memory", "parameters", "latency")
#: Panels that are shown, and rows of each; seeds that the proposed sweep has.
_PANELS, _ROWS, _SEEDS = 3, 12, 5


@dataclass(frozen=True)
class Limits:
    """The most that a method may cost: bytes of memory, trained parameters (a number, or below 1 a share of the model),
    milliseconds of latency."""

    memory: int | None = None
    parameters: float | None = None
    latency_ms: float | None = None


def main(arguments: list[str]) -> int:
    """Run the command; 1 if there is no evidence."""
    with process.stoppable():
        words, folders = config_dirs(arguments)
        limits, words = take(words)
        for word in words:
            if "=" not in word or word.startswith("-"):
                raise ConfigError(
                    f"{word}: allowed are dataset=, model=, {', '.join(f'{w}=' for w in _WORDS)} and keys"
                )
        if not any(word.startswith("dataset=") for word in words):
            raise ConfigError("dataset: is required; advise dataset=sst2")
        if any(word.startswith("method=") for word in words):
            raise ConfigError("method: is what advise chooses; leave it out")
        composed = plan(canonical(words, folders), multirun=False, config_dirs=folders)
        if composed.multirun:
            raise ConfigError("advise: takes one model and one data set")
        config = composed.cells[0]
        named = replace(config.dataset, name=own_files.name_in_records(config.dataset))
        lines, evidence = advise(replace(config, dataset=named), limits, words)
    print("\n".join(lines))
    return 0 if evidence else 1


def take(words: Sequence[str]) -> tuple[Limits, list[str]]:
    """The limits, and the other words. Raises ConfigError for a limit that isn't one."""
    values = {key: value for word in words for key, _, value in [word.partition("=")] if key in _WORDS}
    memory = budget.bytes_of("memory", values["memory"]) if "memory" in values else None
    limits = Limits(memory, _parameters(values.get("parameters")), _latency(values.get("latency")))
    return limits, [word for word in words if word.partition("=")[0] not in _WORDS]


def _parameters(written: str | None) -> float | None:
    if written is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%|k|M|G)?", written)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"parameters={written}: allowed is a number above 0, such as 500k, 2M or 0.5%")
    return float(match[1]) * {"%": 1e-2, "k": 1e3, "M": 1e6, "G": 1e9, None: 1}[match[2]]


def _latency(written: str | None) -> float | None:
    if written is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)ms", written)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"latency={written}: allowed is milliseconds, such as 20ms")
    return float(match[1])


def advise(
    config: RunConfig, limits: Limits, words: Sequence[str], *, without: str | None = None
) -> tuple[list[str], bool]:
    """The advice in lines, and whether there is any evidence.

    Args:
        words: the command line, for the lines to run.
        without: a data set whose records aren't looked at.
    """
    shown = advice.panels(config, without=without)[:_PANELS]
    for panel in shown:
        advice.mark(panel.rows)
    head = f"Which method for dataset={config.dataset.name} on model={config.model.name}?"
    if not shown:
        return [head, "", *_nothing(config, words)], False
    estimates = _estimates(_asked(shown, limits), words, limits)
    lines = [head]
    for panel in shown:
        lines += ["", *_panel(panel, estimates, limits)]
    return [*lines, "", *_printed(config), *_last(shown[0], estimates, limits, words)], True


def _nothing(config: RunConfig, words: Sequence[str]) -> list[str]:
    return [
        "No evidence: no record of this task, nor of this kind of task on this model.",
        *_printed(config),
        f"  python -m peftbench {' '.join(words)} method=full,lora,bitfit,linear_probe seed=0,1,2 -m",
    ]


def _printed(config: RunConfig) -> list[str]:
    rows = advice.printed(config.dataset.name)
    lines = [line for row in rows for line in _wrapped(row, "  ")]
    return ["Printed, not re-run:", *lines, ""] if rows else []


def _asked(shown: Sequence[ComparableRuns], limits: Limits) -> list[str]:
    """The methods whose estimate is read: with limits all, without them what is shown and what may be recommended."""
    within = [panel.rows if limits != Limits() else panel.rows[:_ROWS] for panel in shown]
    return sorted({row.method for row in [*(row for rows in within for row in rows), *best(shown[0].rows)]})


def best(rows: Sequence[MethodRuns]) -> list[MethodRuns]:
    """The rows that train something and can't be told from the best; where none was compared, the first."""
    return _leaders(rows) or _training(rows)[:1]


def _leaders(rows: Sequence[MethodRuns]) -> list[MethodRuns]:
    """The rows that train something and can't be told from the best of these; empty where none was compared."""
    methods = _training(rows)
    ties = certainty.ties([row.scored for row in methods])
    return [row for row, tied in zip(methods, ties, strict=True) if tied]


def _training(rows: Sequence[MethodRuns]) -> list[MethodRuns]:
    """The rows that train something: a baseline is no method."""
    return [row for row in rows if row.figure("params", "trainable")]


def _estimates(methods: Sequence[str], words: Sequence[str], limits: Limits) -> dict[str, RunEstimate]:
    """The estimates of methods with evidence, by name, on the model that is asked about."""
    present = [name for name in methods if name in paths.choices("method")]
    cells = [plan([*words, f"method={name}"], multirun=False).cells[0] for name in present]
    return dict(zip(present, estimation.make(cells, Options(memory=limits.memory)), strict=True))


def unfit(row: MethodRuns, estimates: dict[str, RunEstimate], limits: Limits) -> str | None:
    """The reason why a method is out of question; None: it isn't. What nobody measured or estimated is no reason."""
    one = estimates.get(row.method)
    latency = row.figure("efficiency", "inference_latency_ms_merged")
    latency = latency or row.figure("efficiency", "inference_latency_ms")
    if one is not None and not one.refused:
        trained, total = one.cell["params"]["trainable"], one.cell["params"]["total"]
        most = limits.parameters
        if limits.memory is not None and one.memory > limits.memory:
            return f"needs {budget.in_words(one.memory)}"
        if most is not None and (trained / total if most < 1 else trained) > most:
            return f"trains {trained:,}"
    if limits.latency_ms is not None and latency is not None and latency > limits.latency_ms:
        return f"{latency:.1f} ms an answer"
    return None


def _panel(panel: ComparableRuns, estimates: dict[str, RunEstimate], limits: Limits) -> list[str]:
    head = f"{NEAR[panel.distance].capitalize()}: {panel.dataset} on {panel.model} ({panel.conditions})"
    shown = panel.rows[:_ROWS]
    table = [["", "method", "score", "95 %", "seeds", "trained", "memory", "train, s"]]
    table += [_row(row, estimates) for row in shown]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(word.ljust(n) for word, n in zip(row, widths, strict=True)).rstrip() for row in table]
    told = [_beside(row, unfit(row, estimates, limits)) for row in shown]
    rows = [line for first, more in zip(lines[1:], told, strict=True) for line in (first, *more)]
    hidden = len(panel.rows) - _ROWS
    return [*textwrap.wrap(head, WIDTH), lines[0], *rows, *([f"and {hidden} with lower scores"] if hidden > 0 else [])]


def _row(row: MethodRuns, estimates: dict[str, RunEstimate]) -> list[str]:
    interval, one = row.interval(), estimates.get(row.method)
    between = "unknown" if interval is None else f"{100 * interval.low:.1f}-{100 * interval.high:.1f}"
    mark = {True: "=", False: "", None: "?"}[row.tied]
    trained, took = row.figure("params", "trainable"), row.figure("efficiency", "train_time_s")
    memory = "unknown" if one is None or one.refused else budget.in_words(one.memory)
    numbers = ["" if trained is None else f"{trained:,.0f}", memory, "" if took is None else f"{took:.0f}"]
    return [mark, row.method, f"{100 * row.mean:.1f}", between, str(len(row.runs)), *numbers]


def _beside(row: MethodRuns, why_not: str | None) -> list[str]:
    """Lines under a row: what was changed of the method, and why it is left out."""
    told = [" ".join(row.changed), f"left out: {why_not}" if why_not else ""]
    return [line for text in told if text for line in _wrapped(text, "     ")]


def _wrapped(text: str, indent: str) -> list[str]:
    """A text in lines of a terminal; words, which may be a command line's, stay whole."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@dataclass(frozen=True)
class Recommended:
    """The row that is recommended, why, and the methods that a sweep would have to compare with it."""

    row: MethodRuns
    reason: str
    open: list[str]


def choose(panel: ComparableRuns, estimates: dict[str, RunEstimate], limits: Limits) -> Recommended | None:
    """The method that a panel recommends; None: no method with evidence keeps within the limits."""
    rows = [row for row in panel.rows if unfit(row, estimates, limits) is None and row.method in estimates]
    leaders = _leaders(rows)
    trained = _training(rows)
    if not leaders:
        names = _names(trained)
        why = "the best score; one seed each, so nothing was tested" if names[1:] else "nothing else is left"
        return Recommended(trained[0], why, names[:3]) if trained else None

    def memory(row: MethodRuns) -> float:
        one = estimates[row.method]
        return float("inf") if one.refused else one.memory

    names = _names(leaders)
    reason = f"of {len(names)} that can't be told from the best (=), the one with the least memory"
    return Recommended(min(leaders, key=memory), reason, names)


def _names(rows: Sequence[MethodRuns]) -> list[str]:
    """The rows' methods, each once."""
    return list(dict.fromkeys(row.method for row in rows))


def _last(panel: ComparableRuns, estimates: dict[str, RunEstimate], limits: Limits, words: Sequence[str]) -> list[str]:
    """Lines on what to run: the recommended method, and the sweep that would settle what is open."""
    choice, asked = choose(panel, estimates, limits), shlex.join(words)
    if choice is None:
        return ["No method with evidence keeps within these limits."]
    untrained = [row.method for row in panel.rows if row.tied and not row.figure("params", "trainable")]
    careful = f"Careful: {', '.join(untrained)}, which trains nothing, can't be told from the best."
    told = [
        *([careful] if untrained else []),
        "= can't be told from the best of its table (Hsu's test); ? not compared: one seed without predictions.",
        f"Recommended: {choice.row.method} ({choice.reason}; {NEAR[panel.distance]}).",
    ]
    return [
        *(line for text in told for line in _wrapped(text, "")),
        f"  python -m peftbench {asked} {shlex.join([f'method={choice.row.method}', *choice.row.changed])}",
        "What would settle the rest:",
        f"  python -m peftbench {asked} method={','.join(choice.open)} seed={','.join(map(str, range(_SEEDS)))} -m",
    ]
