"""Which settings a sweep varied: rows that differ in one number, whose scores can be drawn as a line."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from peftbench.results.report.page.document import Column, PageRow, Series, SettingCurves

#: A setting must take so many values to be drawn.
_LEAST = 2
#: These come first, where several settings change together (a rank, and the scale that follows it).
_FIRST = ("recipe.train_samples", "recipe.shots", "r", "rank")


def sweeps(
    columns: Sequence[Column], rows: Sequence[PageRow], settings: Mapping[tuple[str, str], Mapping[str, str]]
) -> list[SettingCurves]:
    """The settings that were varied, by data set and setting.

    Args:
        settings: by row and column (ids) the cell's configuration, flat, without names and seeds.
    """
    by_setting: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for column in columns:
        groups: dict[tuple[str, str, str], list[PageRow]] = defaultdict(list)
        for row in rows:
            if column.id in row.cells:
                groups[row.method, row.model, row.study].append(row)
        for members in groups.values():
            by_row = {row.id: settings[row.id, column.id] for row in members}
            for setting, series in _lines(column, members, by_row):
                by_setting[column.id, setting].append(series)
    return [SettingCurves(column, setting, series) for (column, setting), series in by_setting.items()]


def _lines(
    column: Column, rows: Sequence[PageRow], settings: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, Series]]:
    """The lines through the rows of a method and model: a setting's values, the rest alike."""
    every = sorted(set().union(*(values.keys() for values in settings.values())))
    differing = [key for key in every if len({values.get(key) for values in settings.values()}) > 1]
    lines: list[tuple[str, Series]] = []
    drawn: list[str] = []
    for key in sorted(differing, key=_order):
        if any(_follows(settings, key, other) and _follows(settings, other, key) for other in drawn):
            continue
        others = [other for other in differing if other != key and not _follows(settings, other, key)]
        parts: dict[tuple[str | None, ...], list[tuple[float, PageRow]]] = defaultdict(list)
        for row in rows:
            if (number := _number(settings[row.id].get(key))) is not None:
                parts[tuple(settings[row.id].get(other) for other in others)].append((number, row))
        for part in parts.values():
            if len({number for number, _ in part}) == len(part) >= _LEAST:
                lines.append((key, _series(column, part, several=len(parts) > 1)))
                drawn.append(key)
    return lines


def _order(key: str) -> tuple[int, str]:
    """The place of a setting among those that could be drawn."""
    places = [place for place, name in enumerate(_FIRST) if key == name or key.endswith(f".{name}")]
    return (min(places, default=len(_FIRST)), key)


def _follows(settings: Mapping[str, Mapping[str, str]], key: str, other: str) -> bool:
    """True if a setting's value follows from another's."""
    pairs = {(values.get(other), values.get(key)) for values in settings.values()}
    return len(pairs) == len({first for first, _ in pairs})


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _series(column: Column, part: Sequence[tuple[float, PageRow]], *, several: bool) -> Series:
    ordered = sorted(part, key=lambda pair: pair[0])
    first = ordered[0][1]
    return Series(
        name=" · ".join(filter(None, (first.study, *((first.name,) if several else (first.method, first.model))))),
        rows=[row.id for _, row in ordered],
        at=[number for number, _ in ordered],
        scores=[row.cells[column.id].score for _, row in ordered],
    )
