"""What a data set's rows say, whatever the model and however it is asked: a row becomes one or more `Example`s.

A `Reader` is a task type's way of reading.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from peftbench.data.kinds import Role

#: The label of an example that has none: a hidden test's, as the hub marks it, or one that is only text.
NO_LABEL = -1


@dataclass(frozen=True)
class Example:
    """One question with one answer.

    Attributes:
        row: its row in the split's file.
        fields: texts by name: what templates are filled with.
        label: index of the right label or choice; a number, for regression; `NO_LABEL`.
        choices: what is chosen from, where that isn't the same for every example.
        group: examples of one number are scored together; None: each alone.
        must_stay: by field, the characters [start, end) that mustn't be cut away.
        references: the right answers as text, where scoring compares texts; the first one is what is trained on.
        candidate: the answer that this example proposes, where a group's best one is scored.
    """

    row: int
    fields: dict[str, str]
    label: int | float = NO_LABEL
    choices: list[str] = field(default_factory=list)
    group: int | None = None
    must_stay: dict[str, tuple[int, int]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    candidate: str | None = None


class Reader(Protocol):
    """A task type's reader of rows. Built from the data set's configuration: `Reader(config)` raises ConfigError for
    one that it can't read by."""

    #: `answers`: what metrics compare (labels, numbers or texts); `takes_labels`: labels are those that the data
    #: set declares.
    answers: ClassVar[str]
    takes_labels: ClassVar[bool]
    #: The columns that say which rows are scored together, and which stay on one side of every division; empty: none.
    grouped: list[str]
    together: list[str]
    #: Names that templates may use.
    fields: list[str]

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        ...

    @property
    def shown(self) -> list[str]:
        """Those of `columns` that a question consists of, without its answer."""
        ...

    @property
    def roles(self) -> list[Role]:
        """The roles in which columns are read, one a column, where the user's own file may write it in several ways."""
        ...

    def check(self, table: pa.Table, where: str) -> None:
        """Raises ConfigError for a value that can't be read: column, split and row in one line."""
        ...

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        """The examples of a table that `check` passed; `rows`: (table rows,) where each is in the split's file."""
        ...

    def groups(self, table: pa.Table, rows: np.ndarray) -> np.ndarray:
        """(rows,) equal numbers for rows that are scored together, and therefore drawn together. Of a table of the
        columns `grouped`, else `together`; not called where those are none."""
        ...

    def classes(self, table: pa.Table) -> np.ndarray | None:
        """(rows,) class of each row, for drawing so many a class; None where the task has no classes."""
        ...


def column(table: pa.Table, name: str) -> list[Any]:
    """The values of a column; `idx.question`, where no column is called so, is a field of a struct column."""
    if name in table.column_names:
        return table.column(name).to_pylist()
    first, *inner = name.split(".")
    values = table.column(first).to_pylist()
    for part in inner:
        values = [None if value is None else value.get(part) for value in values]
    return values
