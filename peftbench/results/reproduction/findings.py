"""Sayings of the field, put to the test: what a sweep's `finding:` block says, and what records make of it.

Every check compares a 90 % interval with what was fixed before the sweep was run: all of it within what was said, it
holds; all of it outside, it doesn't; else nothing can be told.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peftbench.errors import ConfigError, nearest
from peftbench.results.records import RunRecord
from peftbench.results.report.flattening import flat
from peftbench.results.reproduction import spread
from peftbench.results.reproduction.answers import FAILS, HOLDS, UNTOLD, CheckResult, ComparedInterval, Interval

#: The exit status of `reproduce finding=` for each.
STATUSES = {HOLDS: 0, FAILS: 1, UNTOLD: 3}
#: One-sided confidence of intervals and of "not below the best".
_CONFIDENCE = 0.95

Runs = list[RunRecord]


@dataclass(frozen=True)
class Finding:
    """A saying that a sweep tests.

    Attributes:
        statement, source: in words, and whose.
        seeds: runs that every cell needs.
        checks: what must all hold; each names its `check`, and what it compares.
    """

    statement: str
    source: str
    seeds: int
    checks: list[dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """The answer to a finding, check by check, and what is missing for one."""

    finding: Finding
    answer: str
    checks: list[CheckResult] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)


def read(name: str, content: dict[str, Any]) -> Finding:
    """A sweep's `finding:` block. Raises ConfigError unless it is whole and its checks are known."""
    block = content.get("finding")
    if not isinstance(block, dict) or block.keys() != {"statement", "source", "needs", "check"}:
        raise ConfigError(f"finding={name}: its block has statement, source, needs (seeds) and check, and no other key")
    for check in block["check"]:
        for key, allowed in (("check", _CHECKS), ("figure", FIGURES)):
            if check.get(key, "score") not in allowed:
                raise ConfigError(
                    f"finding={name}: {key}={check.get(key)}: {nearest(str(check.get(key)), list(allowed))}"
                )
    return Finding(block["statement"], block["source"], int(block["needs"]), list(block["check"]))


def judge(finding: Finding, records: Sequence[RunRecord], missing: Sequence[str] = ()) -> Result:
    """The result for a finding by the records of its sweep.

    Args:
        missing: cells of the sweep that aren't recorded.
    """
    needs = [*missing, *_few(finding, records)]
    if needs or not records:
        return Result(finding, UNTOLD, needs=needs or ["its sweep"])
    answers = [_CHECKS[check["check"]](check, records) for check in finding.checks]
    verdicts = {answer.answer for answer in answers}
    answer = FAILS if FAILS in verdicts else UNTOLD if UNTOLD in verdicts else HOLDS
    return Result(finding, answer, answers)


def _few(finding: Finding, records: Sequence[RunRecord]) -> list[str]:
    """Cells with fewer seeds than the finding needs."""
    cells: dict[str, Runs] = defaultdict(list)
    for record in records:
        settings = {key: value for key, value in _settings(record).items() if key != "seed"}
        cells[repr(sorted(settings.items()))].append(record)
    few = [runs for runs in cells.values() if len(runs) < finding.seeds]
    return [f"{_label(runs[0], ['method', 'dataset'])}: {finding.seeds} seeds, {len(runs)} recorded" for runs in few]


def _figure(name: str) -> Callable[[RunRecord], float | None]:
    return FIGURES[name]


def _ratio(above: str, below: str) -> Callable[[RunRecord], float | None]:
    def ratio(record: RunRecord) -> float | None:
        efficiency = record.efficiency or {}
        a, b = efficiency.get(above), efficiency.get(below)
        return None if a is None or not b else a / b

    return ratio


def _overfit(record: RunRecord) -> float | None:
    """The score on the slice of the training data less that on the evaluation split."""
    train = (record.metrics.get("train") or {}).get("score")
    return None if train is None or record.score is None else train - record.score


#: What is compared, by name, of a record.
FIGURES: dict[str, Callable[[RunRecord], float | None]] = {
    "score": lambda record: record.score,
    "overfit": _overfit,
    "latency": _ratio("inference_latency_ms", "inference_latency_ms_base"),
    "latency_merged": _ratio("inference_latency_ms_merged", "inference_latency_ms_base"),
    "memory": _ratio("peak_memory_bytes", "weights_bytes"),
}


def _values(records: Sequence[RunRecord], where: dict[str, Any], figure: str) -> list[float]:
    chosen = [record for record in records if _meets(record, where)]
    return [value for record in chosen if (value := _figure(figure)(record)) is not None]


def _meets(record: RunRecord, where: dict[str, Any]) -> bool:
    values = _settings(record)
    return all(values.get(key) == str(value) for key, value in where.items())


def _settings(record: RunRecord) -> dict[str, str]:
    """A record's configuration, flat, with the names of its parts under the groups' own."""
    names = {group: str(record.config[group]["name"]) for group in ("method", "model", "dataset")}
    return {**flat(record.config), **names}


def _label(record: RunRecord, keys: Sequence[str]) -> str:
    values = _settings(record)
    return ", ".join(f"{key.rpartition('.')[2]}={values.get(key)}" for key in keys)


def _cells(check: dict[str, Any], records: Sequence[RunRecord], where: dict[str, Any]) -> dict[str, list[float]]:
    """Figures by the values of the check's `over`."""
    over = [check["over"]] if isinstance(check["over"], str) else list(check["over"])
    cells: dict[str, list[float]] = defaultdict(list)
    for record in records:
        value = _figure(check.get("figure", "score"))(record)
        if _meets(record, where) and value is not None:
            cells[_label(record, over)].append(value)
    return dict(cells)


def _mean(values: Sequence[float]) -> Interval | None:
    """A 90 % interval of a mean; None from one value."""
    if len(values) < 2:
        return None
    half = spread.quantile(_CONFIDENCE, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def _difference(a: Sequence[float], b: Sequence[float]) -> Interval | None:
    """Welch's 90 % interval of a difference of means; None where a spread isn't known."""
    if len(a) < 2 or len(b) < 2:
        return None
    parts = [statistics.variance(a) / len(a), statistics.variance(b) / len(b)]
    middle, total = statistics.fmean(a) - statistics.fmean(b), sum(parts)
    if total == 0:
        return middle, middle
    df = total**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = spread.quantile(_CONFIDENCE, df) * math.sqrt(total)
    return middle - half, middle + half


def _compared(interval: Interval | None, low: float, high: float, words: str, figure: str) -> CheckResult:
    """A check that is one comparison of an interval with what was said."""
    compared = ComparedInterval(words, figure, interval, (low, high))
    return CheckResult(compared.answer, compared.numbers, [compared])


def _check_between(check: dict[str, Any], records: Sequence[RunRecord]) -> CheckResult:
    """A figure's mean lies between two bounds."""
    values = _values(records, check.get("where", {}), check["figure"])
    low, high = map(float, check["between"])
    return _compared(_mean(values), low, high, f"{check['figure']} {_words(check.get('where', {}))}", check["figure"])


def _check_difference(check: dict[str, Any], records: Sequence[RunRecord]) -> CheckResult:
    """A figure of some runs is larger than that of others by d."""
    figure = check.get("figure", "score")
    a, b = (_values(records, check[key], figure) for key in ("of", "to"))
    words = f"{figure} {_words(check['of'])} less {_words(check['to'])}"
    return _compared(_difference(a, b), float(check["d"]), math.inf, words, f"difference of {figure}")


def _check_alike(check: dict[str, Any], records: Sequence[RunRecord]) -> CheckResult:
    """Cells differ by d at the most, each from each."""
    cells, d = _cells(check, records, check.get("where", {})), float(check["d"])
    pairs = list(itertools.combinations(sorted(cells), 2))
    figure = f"difference of {check.get('figure', 'score')}"
    answers = [_compared(_difference(cells[a], cells[b]), -d, d, f"{a} less {b}", figure) for a, b in pairs]
    return _joined(answers)


def _check_range(check: dict[str, Any], records: Sequence[RunRecord]) -> CheckResult:
    """The best cell and the worst are at least d apart."""
    cells = _cells(check, records, check.get("where", {}))
    if len(cells) < 2:
        return CheckResult(UNTOLD, "fewer than two cells")
    ordered = sorted(cells, key=lambda cell: statistics.fmean(cells[cell]))
    worst, best = ordered[0], ordered[-1]
    figure, apart = f"difference of {check.get('figure', 'score')}", _difference(cells[best], cells[worst])
    return _compared(apart, float(check["d"]), math.inf, f"{best} less {worst}", figure)


def _check_best_ratio(check: dict[str, Any], records: Sequence[RunRecord]) -> CheckResult:
    """The best value of a key for some runs, over that for others, lies between two bounds. Values whose mean isn't
    below the best one's beyond chance may all be the best."""
    low, high = map(float, check["between"])
    best, ends = [], []
    for key in ("of", "to"):
        cells = {float(label.partition("=")[2]): v for label, v in _cells(check, records, check[key]).items()}
        if not cells:
            return CheckResult(UNTOLD, f"no run of {_words(check[key])}")
        top = max(cells, key=lambda value: statistics.fmean(cells[value]))
        tied = [value for value in cells if value == top or not _below(cells[value], cells[top])]
        best.append((min(tied), max(tied)))
        ends += (
            [f"{_words(check[key])} may be best at the end of the grid"] if {*tied} & {min(cells), max(cells)} else []
        )
    ratio = best[0][0] / best[1][1], best[0][1] / best[1][0]
    words = f"best {check['over']} {_words(check['of'])} over {_words(check['to'])}"
    answer = _compared(ratio, low, high, words, f"ratio of the best {check['over']}")
    if ends:
        return CheckResult(UNTOLD, f"{answer.numbers}; {'; '.join(ends)}", answer.compared)
    return answer


def _below(values: Sequence[float], best: Sequence[float]) -> bool:
    interval = _difference(values, best)
    return interval is not None and interval[1] < 0


def _joined(answers: Sequence[CheckResult]) -> CheckResult:
    """All must hold; one that fails is enough."""
    compared = [one for answer in answers for one in answer.compared]
    for kind in (FAILS, UNTOLD):
        if other := [answer for answer in answers if answer.answer == kind]:
            return CheckResult(kind, "; ".join(answer.numbers for answer in other), compared)
    return CheckResult(HOLDS if answers else UNTOLD, "; ".join(answer.numbers for answer in answers), compared)


def _words(where: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in where.items())


_CHECKS: dict[str, Callable[[dict[str, Any], Sequence[RunRecord]], CheckResult]] = {
    "between": _check_between,
    "difference": _check_difference,
    "alike": _check_alike,
    "range": _check_range,
    "best_ratio": _check_best_ratio,
}


def text(result: Result) -> str:
    """A result for the terminal."""
    parts = [result.finding.statement, f"  source   {result.finding.source}", f"  answer   {result.answer}"]
    parts += [f"  needs    {need}" for need in result.needs]
    parts += [f"  {answer.answer}: {answer.numbers}" for answer in result.checks]
    return "\n".join(parts)
