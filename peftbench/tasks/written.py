"""Numbers and names as text: tasks whose answers aren't label words, and aren't scored as free texts either.

Source: Raffel et al. (T5), arXiv 1910.10683, section 2.4: STS-B's scores rounded to 0.2 and written as digits, what is
no number counting as -1; of ReCoRD the name that fits the gap.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peftbench import metrics
from peftbench.data.examples import NO_LABEL, Example, Reader
from peftbench.data.readers import Gaps
from peftbench.errors import ConfigError
from peftbench.schema import DatasetConfig, WritingConfig
from peftbench.tasks.text import Text

if TYPE_CHECKING:
    from peftbench.data.encode import Encoded

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@dataclass
class Written(Text):
    """What both share: `dataset.writing` says how the answer is asked for and how long it may be."""

    @classmethod
    def check(cls, data: DatasetConfig) -> tuple[list[str], str, WritingConfig]:
        if data.writing is None:
            raise ConfigError(
                f"dataset={data.name}: formulation=text needs dataset.writing, with template and max_new_tokens"
            )
        return [], data.writing.template, data.writing


@dataclass
class Number(Written):
    """Regression: the number, rounded to `dataset.writing.step`."""

    def right(self, example: Example) -> str:
        step = self.writing.step
        if step is None:
            return f"{example.label:g}"
        # As many decimals as the step has: 2.6, and not 2.6000000000000001.
        decimals = len(f"{step:g}".partition(".")[2])
        return f"{round(example.label / step) * step:.{decimals}f}"

    def score(self, predictions: Any, examples: "Encoded") -> dict[str, float]:
        found = [float(said) if _NUMBER.fullmatch(said := text.strip()) else float(NO_LABEL) for text in predictions]
        return metrics.compute(self.config.metrics, np.array(found), examples.labels.numpy())


@dataclass
class Name(Written):
    """The candidate that fits the gap, as ReCoRD's metrics compare it with the right ones: one example a query."""

    @classmethod
    def read(cls, data: DatasetConfig) -> Reader:
        return Gaps(data)

    def right(self, example: Example) -> str:
        return example.references[0] if example.references else ""

    def score(self, predictions: Any, examples: "Encoded") -> dict[str, float]:
        return metrics.compute(self.config.metrics, predictions, examples.references or [])
