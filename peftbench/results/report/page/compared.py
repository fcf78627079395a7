"""What the page says of how rows compare: panels, the probabilities in them, and a cell's place among others."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from peftbench.results.report import evidence
from peftbench.results.report.page.document import Column, Matrix, PagePanel, PageRow, Table
from peftbench.results.report.stats import Leaderboard
from peftbench.results.report.suites import RowName, in_full

#: Rows of a matrix, at most: more can't be read.
_MOST = 30


def panels(
    columns: Sequence[Column], rows: Mapping[RowName, PageRow], tested: Sequence[evidence.PanelEvidence] = ()
) -> list[PagePanel]:
    """Every data set and model, split where rows can't be compared. Rows that weren't tested stand with those of their
    study that were."""
    made = []
    for column in columns:
        for model, study in sorted({(row.model, row.study) for row in rows.values()}):
            here = {
                name: row
                for name, row in rows.items()
                if (row.model, row.study) == (model, study) and column.id in row.cells
            }
            groups = [one for one in tested if one.column == column.name and not here.keys().isdisjoint(one.rows)]
            for group in groups[1:]:
                made.append(_panel(column, model, [here.pop(n) for n in group.rows if n in here], group.conditions))
            conditions = groups[0].conditions if groups else f"study {study}" if study else ""
            made.append(_panel(column, model, list(here.values()), conditions))
    return [panel for panel in made if panel.rows]


def _panel(column: Column, model: str, rows: Sequence[PageRow], conditions: str) -> PagePanel:
    ordered = sorted(rows, key=lambda row: (-row.cells[column.id].score.mean, row.name))
    return PagePanel(column, model, ordered, conditions)


def matrices(
    columns: Sequence[Column], rows: Mapping[RowName, PageRow], tested: Sequence[evidence.PanelEvidence]
) -> list[Matrix]:
    """The probabilities of all panels, of the best rows of each."""
    by_name = {column.name: column for column in columns}
    made = []
    for panel in tested:
        places = [i for i, name in enumerate(panel.rows) if name in rows][:_MOST]
        values = [[float(panel.better[i, j]) for j in places] for i in places]
        shown = [rows[panel.rows[i]] for i in places]
        if len(shown) > 1:
            column = by_name[panel.column]
            name = PagePanel(column, panel.model, shown, panel.conditions).name
            made.append(Matrix(name, column.id, panel.model, shown, values))
    return made


def improvements(rows: Mapping[RowName, PageRow], standings: Sequence[evidence.RankIntervals]) -> list[Matrix]:
    """The probabilities of improvement over several data sets, of the best rows."""
    made = []
    for one in standings:
        places = [i for i, name in enumerate(one.rows) if name in rows][:_MOST]
        values = [[float(one.improvement[i, j]) for j in places] for i in places]
        name = " · ".join(filter(None, ("over all data sets", one.model, one.conditions)))
        made.append(Matrix(name, "", one.model, [rows[one.rows[i]] for i in places], values))
    return made


def notes(board: Leaderboard) -> dict[tuple[RowName, str], list[tuple[str, str]]]:
    """Notes by cell: how far it is from its panel's best, what would separate the two, and how far it is on the way
    from the linear probe to full fine-tuning, and in which share of draws its row is the best."""
    by_cell: dict[tuple[RowName, str], list[tuple[str, str]]] = defaultdict(list)
    for panel in board.evidence.panels:
        best = panel.rows[0]
        for pair in panel.pairs:
            if best in (pair.a, pair.b):
                other, sign = (pair.b, -1) if pair.a == best else (pair.a, 1)
                by_cell[other, panel.column] += _behind(pair, sign)
    for standing in board.evidence.standings:
        for row, share in zip(standing.rows, standing.best, strict=True):
            for column in standing.columns:
                by_cell[row, column].append(("best by the mean over data sets in", f"{100 * share:.0f} % of draws"))
    for cell, way in board.evidence.ways.items():
        if way is not None:
            text = f"{100 * way.share:.0f} % [{100 * way.low:.0f}, {100 * way.high:.0f}]"
            by_cell[cell].append(("of the way from linear probe to full", text))
    return by_cell


def _behind(pair: evidence.Pair, sign: int) -> list[tuple[str, str]]:
    """The difference from the best: `sign` turns the pair's round."""
    one = pair.difference
    low, high = sorted((sign * one.low, sign * one.high))
    text = f"{100 * sign * one.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], p {pair.p_holm:.2g} ({one.test}, Holm)"
    needed = pair.needed
    numbers = {} if needed is None else {"seeds": needed.seeds, "examples": needed.examples}
    texts = [f"{number:,} {name}" for name, number in numbers.items() if number is not None]
    would = [("would be separated by", " or ".join(texts))] if texts else []
    return [("difference from the best", text), *would]


def standings(board: Leaderboard) -> list[Table]:
    """Ranks over several data sets, a table for every model and conditions."""
    tables = []
    for one in board.evidence.standings:
        where = " · ".join(filter(None, (one.model, one.conditions)))
        lines = [
            [
                in_full(row),
                f"{low}" if low == high else f"{low} to {high}",
            ]
            for row, low, high in zip(one.rows, one.low, one.high, strict=True)
        ]
        caption = f"Rank by the mean over {', '.join(one.columns)}, with {where}"
        tables.append(Table(caption, ["method", "rank, in 95 % of draws"], lines, left=1))
    return tables
