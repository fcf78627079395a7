"""`Document`: all that the page shows, as plain values. Scores are fractions; what is missing is None."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Data sets and models that pictures are drawn of, at most: a board of hundreds of cells stays a page that opens.
PICTURED = 24

#: The ends of an interval.
Ends = tuple[float, float]


@dataclass(frozen=True)
class MeanWithInterval:
    """A value and its 95 % interval."""

    mean: float
    interval: Ends | None = None


@dataclass(frozen=True)
class CurveBand:
    """A cell while it trained: by optimiser step the mean over runs, and the least and the largest, all four of one
    length. `of_loss`: of the training loss, where the selection split wasn't asked twice, else of the score there."""

    steps: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    of_loss: bool = False


@dataclass(frozen=True)
class SeedScore:
    """One seed of a cell. `step` is the one whose weights were scored; `selection` the score on the selection split
    there, `last` that of the last step."""

    seed: int
    score: float
    key: str
    step: int | None = None
    selection: float | None = None
    last: float | None = None


@dataclass(frozen=True)
class Class:
    """The figures of one class in a cell, as fractions: means over its runs; `n`: examples of it, of one run."""

    label: str
    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Classes:
    """All classes of a cell, and (C, C) counts of all its runs: a line a right class, a column an answer; None where
    there are too many to be looked at."""

    classes: Sequence[Class]
    confusion: Sequence[Sequence[int]] | None


@dataclass(frozen=True)
class Cell:
    """A row's runs on one data set.

    Attributes:
        basis: what the interval is of ("5 seeds and 872 examples"); `seeds_alone`: not of examples, `few_seeds`: of too
            few to know how much they differ.
        same_examples: the interval of other seeds on these very examples.
        tied: whether it can't be told from the best of its panel; None: not tested.
        metrics: what the score is the mean of, by name.
        gap: the score on training data less the score.
        figures: costs, by the name of the figure (`costs.COSTS`).
        busy: of the figures that aren't to be compared, why.
        warnings: what decides whether the score means anything.
        notes: further figures, heading and text.
        settings: of its configuration what isn't the same in all cells.
        command: the command that makes the runs again.
        classes: how each class is answered; None where the runs don't say, or not of the same classes.
    """

    score: MeanWithInterval
    runs: Sequence[SeedScore]
    basis: str | None = None
    seeds_alone: bool = False
    few_seeds: bool = False
    same_examples: Ends | None = None
    tied: bool | None = None
    metrics: Mapping[str, MeanWithInterval] = field(default_factory=dict)
    gap: MeanWithInterval | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)
    busy: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    notes: Sequence[tuple[str, str]] = ()
    curve: CurveBand | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    classes: Classes | None = None


@dataclass(frozen=True)
class PageRow:
    """A method on a model. `cells` and `figures` are by the column's id and the figure's name; figures are those
    of `measured.Medians`. `study` is that of its runs, where studies stay apart."""

    id: str
    method: str
    model: str
    variant: str
    family: str
    cells: Mapping[str, Cell]
    mean: float | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)
    busy: Mapping[str, str] = field(default_factory=dict)
    study: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method


@dataclass(frozen=True)
class Column:
    """A data set. `metrics` is how its score is written ("accuracy + f1")."""

    id: str
    name: str
    metrics: str


@dataclass(frozen=True)
class PagePanel:
    """The rows of one data set and model that are compared with each other, best first. `conditions` say what they
    share that others of the data set and model don't."""

    column: Column
    model: str
    rows: Sequence[PageRow]
    conditions: str = ""

    @property
    def name(self) -> str:
        return " · ".join(filter(None, (self.column.name, self.model, self.conditions)))


@dataclass(frozen=True)
class Matrix:
    """The probability that the row's method is better than the column's. `column`: the id of the data set; "" over
    several."""

    name: str
    column: str
    model: str
    rows: Sequence[PageRow]
    values: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Series:
    """A line of a sweep: scores by the value of the setting that it varies."""

    name: str
    rows: Sequence[str]
    at: Sequence[float]
    scores: Sequence[MeanWithInterval]


@dataclass(frozen=True)
class SettingCurves:
    """Scores on a data set by one setting."""

    column: str
    setting: str
    series: Sequence[Series]


@dataclass(frozen=True)
class Table:
    """A plain table beside the main one. The first `left` columns are text."""

    caption: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: int = 2


@dataclass(frozen=True)
class Folded:
    """Lines that are folded away under a title."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Mark:
    """A value, its interval, or both. `label` says whose, `text` writes it; an interval may end nowhere (infinity).
    `printed`: it isn't ours."""

    label: str
    text: str
    value: float | None = None
    interval: Ends | None = None
    printed: bool = False


@dataclass(frozen=True)
class MarkedAxis:
    """Marks on one axis under a heading, before a band that says where they should lie; `verdict` says what that
    means."""

    heading: str
    marks: Sequence[Mark]
    band: Ends | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Axis:
    """An axis: what is drawn to one scale; `unit` is that of its numbers."""

    unit: str
    compared: Sequence[MarkedAxis]


@dataclass(frozen=True)
class Chart:
    """A picture of values beside each other, on an axis or several."""

    caption: str
    axes: Sequence[Axis]


@dataclass(frozen=True)
class Bars:
    """A picture of bars, each the sum of its parts: by the bar's name, bytes by part."""

    caption: str
    bars: Sequence[tuple[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Section:
    """A part of the page beside the scores: what it says, its tables, its pictures, and lines under a title each;
    `unfolded`: these lines are shown at once."""

    id: str
    title: str
    note: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Chart | Bars] = ()
    folded: Sequence[Folded] = ()
    unfolded: bool = False


@dataclass(frozen=True)
class Document:
    """The page. `rows` are best first; `shared` are the settings that all cells have in common; `cut` is how many rows
    were left out, because a page of all would be too long to be read."""

    columns: Sequence[Column]
    rows: Sequence[PageRow]
    panels: Sequence[PagePanel] = ()
    matrices: Sequence[Matrix] = ()
    sweeps: Sequence[SettingCurves] = ()
    standings: Sequence[Table] = ()
    costs: Sequence[Table] = ()
    sections: Sequence[Section] = ()
    failed: Sequence[str] = ()
    not_applicable: Sequence[str] = ()
    unreadable: Sequence[str] = ()
    doubtful: Sequence[str] = ()
    machines: Sequence[str] = ()
    footnotes: Sequence[str] = ()
    soft_prompts: Sequence[Folded] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0

    @property
    def families(self) -> list[str]:
        return sorted({row.family for row in self.rows})

    @property
    def models(self) -> list[str]:
        return sorted({row.model for row in self.rows})

    @property
    def pictured(self) -> Sequence[PagePanel]:
        """The panels that pictures are drawn of, those first that compare anything."""
        return sorted(self.panels, key=lambda panel: len(panel.rows) < 2)[:PICTURED]

    @property
    def studies(self) -> list[str]:
        return sorted({row.study for row in self.rows if row.study})
