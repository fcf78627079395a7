"""The reader of generation: rows of texts to answer with a text."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.examples import Example, column
from peftbench.data.kinds import Role, ValueKind
from peftbench.data.rows import Texts
from peftbench.errors import ConfigError

#: What stands between the parts of a text column that holds lists (triples, in data-to-text).
_BETWEEN = " && "


class Writing(Texts):
    """Generation: `dataset.answers` has the right text or a list of them, of which the first is trained on. Rows of
    equal `dataset.group` are one question, whose right texts are those of all its rows."""

    default_metrics: ClassVar[dict[str, str]] = {"rouge1": "max", "rouge2": "max", "rougeL": "max"}
    text_kind: ClassVar[ValueKind] = ValueKind.TEXTS
    answers: ClassVar[str] = "texts"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if config.answers is None or config.generation is None:
            raise ConfigError(
                "dataset.answers: generation needs the column of the right texts, and dataset.generation.max_new_tokens"
            )
        self.right = config.answers
        self.grouped = list(config.group or [])

    def _more(self) -> list[Role]:
        return [
            *(Role(name, "group", ValueKind.TEXTS) for name in self.grouped),
            Role(self.right, "answers", ValueKind.ANSWERS),
        ]

    def check(self, table: pa.Table, where: str) -> None:
        for key, names in (("text", self.config.text), ("answers", [self.right])):
            for name in names:
                for row, value in enumerate(column(table, name)):
                    if not _leaves(value) or not all(isinstance(text, str) for text in _leaves(value)):
                        raise ConfigError(f"dataset.{key}={name}: {where} row {row} has {value!r:.40}, not text")

    def texts(self, table: pa.Table) -> list[dict[str, str]]:
        return [
            {name: _BETWEEN.join(_leaves(value)) for name, value in fields.items()} for fields in super().texts(table)
        ]

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        references = [_leaves(value) for value in column(table, self.right)]
        numbers = self.groups(table, rows).tolist() if self.grouped else [None] * len(references)
        return [
            Example(row, fields, group=group, references=texts)
            for row, fields, group, texts in zip(rows.tolist(), self.texts(table), numbers, references, strict=True)
        ]


def _leaves(value: Any) -> list[Any]:
    """A value, or all that stands in its lists."""
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [value]
