"""What two scores must have in common to be compared."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from peftbench.config import formulations
from peftbench.results.records import RunRecord
from peftbench.results.report import alike
from peftbench.results.report.load import is_tunable
from peftbench.results.report.suites import RowName

_TRIALS = "trials of tuning"


def groups(
    runs: Mapping[tuple[RowName, str], Sequence[RunRecord]],
    studies: Mapping[int, str],
) -> tuple[dict[tuple[str, str, str], list[RowName]], list[str]]:
    """Rows by data set, model and conditions, and notes of what isn't compared.

    Args:
        studies: by a record's `id` the study that it is of, where studies stay apart (`load.Results`).
    """
    newest = _newest([record for records in runs.values() for record in records], studies)
    by_place: dict[tuple[str, str, str], dict[RowName, dict[str, str]]] = defaultdict(dict)
    small = set()
    for (row, column), records in sorted(runs.items()):
        if "min" in (records[0].config["dataset"].get("metrics") or {}).values():
            small.add(f"{column}: its metric is to be small, and isn't compared")
            continue
        study = studies.get(id(records[0]), "")
        current = newest[study, formulations.described(records[0].config)] == (records[0].protocol or 0)
        by_place[column, row[1], study][row] = _conditions(records[0], current)
    grouped: dict[tuple[str, str, str], list[RowName]] = defaultdict(list)
    notes = []
    for (column, model, study), rows in by_place.items():
        _allow_all(rows, {row for row in rows if is_tunable(runs[row, column][0])})
        differing = [key for key in next(iter(rows.values())) if len({values[key] for values in rows.values()}) > 1]
        for row, values in rows.items():
            shared = [*([f"study {study}"] if study else []), *(f"{key} {values[key]}" for key in differing)]
            grouped[column, model, ", ".join(shared)].append(row)
        if differing:
            where = ", ".join(filter(None, (column, model, study)))
            notes.append(f"{where}: rows that differ in {', '.join(differing)} aren't compared")
    return dict(grouped), [*notes, *sorted(small)]


def _allow_all(rows: Mapping[RowName, dict[str, str]], tunable: set[RowName]) -> None:
    """Give rows that have nothing to tune the budget of the others, where these have one in common."""
    budgets = {rows[row][_TRIALS] for row in tunable}
    for row, values in rows.items():
        if row not in tunable and len(budgets) == 1:
            values[_TRIALS] = next(iter(budgets))


def _newest(records: Sequence[RunRecord], studies: Mapping[int, str]) -> dict[tuple[str, str], int]:
    """The newest protocol of each formulation, by study and formulation."""

    def decides(record: RunRecord) -> tuple[object, ...]:
        """The parts that its way of solving a task follows from, its protocol and its study."""
        parts = map(record.config.get, ("model", "method", "dataset", "formulation"))
        return (*parts, record.protocol, studies.get(id(record)))

    newest: dict[tuple[str, str], int] = {}
    for record, *_ in alike.groups(records, decides):
        how = studies.get(id(record), ""), formulations.described(record.config)
        newest[how] = max(newest.get(how, 0), record.protocol or 0)
    return newest


def _budget(record: RunRecord) -> str:
    """The trials that a run's values were chosen by, and what else those could try, or were ended by."""
    trials = str(record.config.get("tune") or 0)
    more = {name: record.config.get(name) for name in ("tune_space", "tune_halving") if record.config.get(name)}
    return trials if not more else f"{trials} ({json.dumps(more, sort_keys=True)})"


def _conditions(record: RunRecord, current: bool) -> dict[str, str]:
    """The conditions that two scores must have in common to be compared, beside their data: how the step was chosen,
    what tuning was allowed, which examples were scored, and what the score means.

    Args:
        current: whether its protocol is the newest of its formulation.
    """
    recipe = record.config.get("recipe") or {}
    split = record.scored_split or {}
    return {
        "selection": str(recipe.get("selection")),
        _TRIALS: _budget(record),
        "examples scored": str(split.get("n")),
        "protocol": "newest" if current else str(record.protocol),
    }
