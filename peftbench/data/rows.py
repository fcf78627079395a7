"""What reading rows has in common, and the readers of classification and regression."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data import templates
from peftbench.data.examples import NO_LABEL, Example, column
from peftbench.data.kinds import Role, ValueKind
from peftbench.errors import ConfigError, nearest

#: Labels that a message lists.
_MOST_SAID = 20


class Texts:
    """Rows of text columns: what all readers share."""

    #: What a data set of this type is scored by where its file doesn't say.
    default_metrics: ClassVar[dict[str, str]] = {}
    #: What metrics compare: labels, numbers or texts.
    answers: ClassVar[str] = "labels"
    #: Whether labels are names of classes, which can be read off the label column.
    takes_labels: ClassVar[bool] = False
    #: What the text columns and the label hold.
    text_kind: ClassVar[ValueKind] = ValueKind.TEXT
    label_kind: ClassVar[ValueKind] = ValueKind.LABEL

    def __init__(self, config: DatasetConfig) -> None:
        """Raises ConfigError for a data set that names no text, or a cut or phrase of a column that isn't one."""
        self.config = config
        if not config.text:
            raise ConfigError("dataset.text: name the column or columns that hold the text, as [sentence]")
        self.fields = list(config.text)
        self.grouped: list[str] = []
        self.together = list(config.group or [])
        for key, named in (("cut", config.cut or []), ("phrases", config.phrases or {})):
            for name in named:
                if name not in config.text:
                    raise ConfigError(f"dataset.{key}={name}: {nearest(name, config.text)}")

    @property
    def columns(self) -> list[str]:
        return [role.column for role in self.roles]

    @property
    def shown(self) -> list[str]:
        """The columns that a question consists of, without its answer."""
        return list(self.config.text)

    @property
    def roles(self) -> list[Role]:
        texts = [Role(name, "text", self.text_kind) for name in self.config.text]
        apart = [name for name in self.together if name not in self.grouped]
        read = [*texts, *self._more(), *(Role(name, "group", ValueKind.TEXT) for name in apart)]
        others = [name for name in self.config.slices or [] if name not in {role.column for role in read}]
        return [*read, *(Role(name, "slices", ValueKind.TEXT) for name in others)]

    def _more(self) -> list[Role]:
        """Those of the columns besides the text."""
        return []

    def check(self, table: pa.Table, where: str) -> None:
        for name in self.config.text:
            check_text(table, name, where)
        for name, phrases in (self.config.phrases or {}).items():
            for row, value in enumerate(column(table, name)):
                if value not in phrases:
                    raise ConfigError(
                        f"dataset.phrases.{name}: {where} row {row} has {value!r}; allowed are {', '.join(phrases)}"
                    )

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        labels = self.labels(table, "")
        numbers = self.groups(table, rows).tolist() if self.grouped else [None] * len(labels)
        return [
            Example(row, fields, label, group=group)
            for row, fields, label, group in zip(rows.tolist(), self.texts(table), labels, numbers, strict=True)
        ]

    def texts(self, table: pa.Table) -> list[dict[str, str]]:
        """The text columns of every row, with what `dataset.phrases` puts in their place."""
        phrases = self.config.phrases or {}
        columns = [
            [phrases[name][value] for value in column(table, name)] if name in phrases else column(table, name)
            for name in self.config.text
        ]
        return [dict(zip(self.config.text, values, strict=True)) for values in zip(*columns, strict=True)]

    def labels(self, table: pa.Table, where: str) -> list[Any]:
        """Reads the label of every row. Raises ConfigError for a value that isn't allowed."""
        raise NotImplementedError

    def groups(self, table: pa.Table, rows: np.ndarray) -> np.ndarray:
        """Numbered by the values of the columns `grouped`, else `together`, in the order of their first rows."""
        names = self.grouped or self.together
        columns = ([str(v) if isinstance(v, list) else v for v in column(table, name)] for name in names)
        values = list(zip(*columns, strict=True))
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        return np.array([numbers[value] for value in values])

    def classes(self, table: pa.Table) -> np.ndarray | None:
        return None


class Labelled(Texts):
    """Classification: one label of several, by index or by name."""

    default_metrics: ClassVar[dict[str, str]] = {"accuracy": "max"}
    takes_labels: ClassVar[bool] = True

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.label = named_column(config)
        if not config.labels:
            raise ConfigError(f"dataset.labels: {config.task} needs the labels' names, in the order of their indices")
        if config.group_size is not None:
            self.grouped = [self.label]

    def groups(self, table: pa.Table, rows: np.ndarray) -> np.ndarray:
        size = self.config.group_size
        return super().groups(table, rows) if size is None else rows // size

    def _more(self) -> list[Role]:
        return [Role(self.label, "label", self.label_kind)]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        self.labels(table, where)

    def labels(self, table: pa.Table, where: str) -> list[Any]:
        return indices(self.config, column(table, self.label), where)

    def classes(self, table: pa.Table) -> np.ndarray | None:
        return np.array(self.labels(table, ""))


class Numbers(Texts):
    """Regression: the label is a number."""

    default_metrics: ClassVar[dict[str, str]] = {"pearson": "max", "spearman": "max"}
    label_kind: ClassVar[ValueKind] = ValueKind.NUMBER
    answers: ClassVar[str] = "numbers"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.label = named_column(config)

    def _more(self) -> list[Role]:
        return [Role(self.label, "label", self.label_kind)]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        for row, value in enumerate(column(table, self.label)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigError(f"dataset.label={self.label}: {where} row {row} has {value!r}; allowed are numbers")

    def labels(self, table: pa.Table, where: str) -> list[Any]:
        return [float(value) for value in column(table, self.label)]


def named_column(config: DatasetConfig) -> str:
    """The label's column. Raises ConfigError if the data set names none."""
    if config.label is None:
        raise ConfigError(f"dataset.label: {config.task} needs the column that holds the label")
    return config.label


def indices(config: DatasetConfig, values: list[Any], where: str) -> list[int]:
    """Labels as indices into `dataset.labels`; the data may hold the indices, the names, or true and false for two
    (by name where they are called so, else false is the first).

    A split without any label (all -1, a hidden test) is let through.

    Raises:
        ConfigError: a label is none of them.
    """
    names = config.labels or []
    by_name = {name: index for index, name in enumerate(names)}
    if values and all(value == NO_LABEL for value in values):
        return [NO_LABEL] * len(values)
    numbers = [_index(value, by_name) for value in values]
    for row, value in enumerate(numbers):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(names):
            raise ConfigError(
                f"dataset.labels: {where} row {row} has the label {values[row]!r}; allowed are {allowed_labels(names)}"
            )
    return numbers


def allowed_labels(names: list[str]) -> str:
    """The labels with their indices, in words; of many the first."""
    first = ", ".join(f"{index} ({name})" for index, name in enumerate(names[:_MOST_SAID]))
    return first + (f" and {len(names) - _MOST_SAID} more" if len(names) > _MOST_SAID else "")


def _index(value: Any, by_name: dict[str, int]) -> Any:
    if isinstance(value, bool):
        written = {name.casefold(): index for name, index in by_name.items()}
        if {"true", "false"} & written.keys():  # One that isn't called so has no name.
            return written.get(str(value).casefold(), value)
        return int(value) if len(by_name) == 2 else value
    if isinstance(value, str):
        return by_name.get(value, value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_text(table: pa.Table, name: str, where: str, *, key: str = "text") -> None:
    """Raises ConfigError for a column that isn't text, or lacks some."""
    kind = table.schema.field(name).type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise ConfigError(f"dataset.{key}={name}: {where} holds {kind}, not text")
    if table.column(name).null_count:
        row = next(row for row, value in enumerate(column(table, name)) if value is None)
        raise ConfigError(f"dataset.{key}={name}: {where} row {row} has no text")


def check_template(key: str, template: str, allowed: Iterable[str], *, once: str | None = None) -> list[str]:
    """The names in a template.

    Args:
        once: a name that must be there, exactly once.

    Raises:
        ConfigError: the template can't be read, or names something else.
    """
    try:
        named = templates.names(template)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    allowed = list(allowed)
    if once in allowed:
        raise ConfigError(f"{key}: {{{once}}} can't be a column's too; dataset.columns gives that another name")
    names = [*allowed, *([once] if once else [])]
    if set(named) - set(names) or (once is not None and named.count(once) != 1):
        exactly = f", {{{once}}} exactly once" if once else ""
        raise ConfigError(f"{key}: takes {{{'}, {'.join(n for n in names if n != once)}}}{exactly}")
    return named
