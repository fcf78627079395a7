"""Which runs a report is of: `dataset=sst2,rte model=minilm method=lora*`, `budget=0.2%`."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace

from peftbench.config import paths
from peftbench.config.fields import BUDGET, PERCENT
from peftbench.errors import ConfigError, nearest
from peftbench.results.records import RunRecord
from peftbench.results.report.load import Results

#: The parts of a run that are chosen by name.
GROUPS = ("dataset", "model", "method")


def chosen(results: Results, wanted: Mapping[str, str]) -> Results:
    """The results of the runs whose names match.

    Args:
        wanted: by group names or patterns (`*`, `?`, `[ab]`), with commas between them; an empty text is every name.

    Raises:
        ConfigError: a pattern that no run matches, where there are runs.
    """
    for group in GROUPS:
        patterns = [pattern.strip() for pattern in wanted.get(group, "").split(",") if pattern.strip()]
        if patterns:
            results = _chosen(results, group, patterns)
    return results


def by_budget(results: Results, wanted: Mapping[str, str]) -> dict[str, Results]:
    """The results by each budget of trained weights that `budget` names: those of the runs that keep to it, as `match`
    would have it: within `tolerance`, or else that of conf/config.yaml. Empty where no budget is named.

    Raises:
        ConfigError: a budget or a tolerance that can't be read, or that no run keeps to.
    """
    budgets = [budget.strip() for budget in wanted.get("budget", "").split(",") if budget.strip()]
    tolerance = wanted.get("tolerance") or _tolerance()
    for key, rule, text in [("tolerance", PERCENT, tolerance), *(("budget", BUDGET, b) for b in budgets)]:
        if not rule.holds(text):
            raise ConfigError(f"report: {key}={text}: allowed is {rule.allowed}")
    allowed = float(tolerance.removesuffix("%")) / 100
    by_budget = {budget: _within(results, budget, allowed) for budget in budgets}
    for budget, those in by_budget.items():
        if results.completed and not those.completed:
            raise ConfigError(f"report: budget={budget}: no run here trains so many weights, within {tolerance}")
    return by_budget


def _tolerance() -> str:
    from peftbench.config.loading import read_yaml  # Brings Hydra, which reports do without.

    return str(read_yaml(paths.CONF / "config.yaml")["tolerance"])


def _within(results: Results, budget: str, tolerance: float) -> Results:
    completed = [record for record in results.completed if _keeps_to(record.params or {}, budget, tolerance)]
    return replace(results, completed=completed, failed=[], not_applicable=[])


def _keeps_to(params: Mapping[str, int | None], budget: str, tolerance: float) -> bool:
    """True if a run's trained weights outside the head are those of a budget. Of adapters that are weights of the model
    (BitFit) or beside it (LoRA) records say the sum alone: the model has the total, or that less the adapter."""
    trained, total = params.get("adapter"), params.get("total")
    if not trained or not total:
        return False
    number = float(budget.removesuffix("%"))
    low, high = (number / 100 * (total - trained), number / 100 * total) if budget.endswith("%") else (number, number)
    return low * (1 - tolerance) <= trained <= high * (1 + tolerance)


def _chosen(results: Results, group: str, patterns: Sequence[str]) -> Results:
    names = {_name(r, group) for r in (*results.completed, *results.failed, *results.not_applicable)}
    for pattern in patterns:
        if names and not fnmatch.filter(names, pattern):
            raise ConfigError(f"report: {group}={pattern}: no run here is of it; {nearest(pattern, sorted(names))}")
    matching = {name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}

    def those(records: Sequence[RunRecord]) -> list[RunRecord]:
        return [record for record in records if _name(record, group) in matching]

    return replace(
        results,
        completed=those(results.completed),
        failed=those(results.failed),
        not_applicable=those(results.not_applicable),
    )


def _name(record: RunRecord, group: str) -> str:
    return str(record.config[group]["name"])
