"""The dataclass of a benchmark that a model is asked before and after tuning."""

import re
from dataclasses import dataclass, field
from typing import Optional

from peftbench.config.rules import Rule, between

_NAMES = Rule(lambda x: len(x) > 0 and len(set(x)) == len(x), "a list of one or more different names")
_INSIDE = Rule(lambda x: re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", x) is not None, "a folder's name, without '..'")
_TASK = Rule(lambda x: x.count("{part}") <= 1, "a name that has {part} in it once, or of one part as it is")
_COUNT = between(1, 1e9)


@dataclass(kw_only=True)
class BenchmarkConfig:
    """One benchmark of lm-eval, with its data.

    Attributes:
        folder: of lm-eval's task files, below its own tasks; `task`: the name of a part's task there; without
            `{part}` that of the one part.
        metric: of lm-eval, one number in [0, 1] a question.
        path, config, revision: where the data are on the hub; under `data_root` as a data set's.
        column: where several parts are one set, the column that names the part. null: each is a hub config, or there is
            one part.
        splits: the split that is asked, then that of the answered questions before it, if lm-eval's task has one.
        columns: what the questions must have; null: all that are there are read.
        parts: subjects or tasks that are asked.
        shots: answered questions before each; null: as lm-eval's task says.
        examples: the first so many of each part; null: all.
        max_new_tokens: of a written answer; null: as lm-eval's task says.
    """

    folder: str = field(metadata={"rule": _INSIDE})
    task: str = field(metadata={"rule": _TASK})
    metric: str
    path: str
    splits: list[str] = field(metadata={"rule": _NAMES})
    parts: list[str] = field(metadata={"rule": _NAMES})
    columns: Optional[list[str]] = field(default=None, metadata={"rule": _NAMES})
    config: Optional[str] = None
    revision: Optional[str] = None
    column: Optional[str] = None
    shots: Optional[int] = field(default=None, metadata={"rule": between(0, 100)})
    examples: Optional[int] = field(default=None, metadata={"rule": _COUNT})
    max_new_tokens: Optional[int] = field(default=None, metadata={"rule": _COUNT})

    def whole(self) -> bool:
        """True if one set has all parts."""
        return self.column is not None or "{part}" not in self.task
