"""Which runs a report is of: `dataset=sst2,rte model=minilm method=lora*`."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace

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
        ConfigError: a pattern that no run matches.
    """
    for group in GROUPS:
        patterns = [pattern.strip() for pattern in wanted.get(group, "").split(",") if pattern.strip()]
        if patterns:
            results = _chosen(results, group, patterns)
    return results


def _chosen(results: Results, group: str, patterns: Sequence[str]) -> Results:
    names = {_name(r, group) for r in (*results.completed, *results.failed, *results.not_applicable)}
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
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
