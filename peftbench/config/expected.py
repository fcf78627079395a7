"""What a paper printed for one data set of an experiment, and what must be known of it before a re-run is judged."""

from dataclasses import dataclass, field
from typing import Any, Optional

from peftbench.config.fields import COUNT
from peftbench.config.rules import between, one_of

#: `start` of a row that begins at the pretrained checkpoint.
CHECKPOINT = "checkpoint"


@dataclass(kw_only=True)
class ExpectedConfig:
    """A published row. Scores are fractions, as in records; null is what the paper doesn't say.

    Attributes:
        value: the printed figure.
        metric: our name of the metric as printed; `a+b`: the mean of two; null: not known.
        split: the split it is of; `a+b`: the mean of two.
        statistic: what the value is of its seeds; null: not said.
        seeds: how many.
        spread, spread_kind: the printed spread, and whether it is a standard deviation or an interquartile range.
        rounding: half a unit of the last printed digit.
        selection: how the printed step was chosen (as `recipe.selection`); null: not said.
        base: the checkpoint's name on the hub (of a model that starts at random, its file's); null: not said.
        start: `checkpoint`, or `<experiment> <data set>` of the run it goes on from; null: not said.
        d: how far off still counts as the same; null: twice the task's floor.
        exact: of records of ours, `cpu`, `data` (a fingerprint), `start` (a key), `seeds` and `scores`: the same
            processor gives the same bits.
        source: paper and table.
        departures: what the paper doesn't say, what its scripts say otherwise, what is done differently here.
    """

    value: float = field(metadata={"rule": between(-1, 1)})
    source: str
    metric: Optional[str] = None
    split: Optional[str] = None
    statistic: Optional[str] = field(default=None, metadata={"rule": one_of("mean", "median", "best")})
    seeds: Optional[int] = field(default=None, metadata={"rule": COUNT})
    spread: Optional[float] = field(default=None, metadata={"rule": between(0, 1)})
    spread_kind: Optional[str] = field(default=None, metadata={"rule": one_of("std", "iqr")})
    rounding: float = field(default=0.0, metadata={"rule": between(0, 1)})
    selection: Optional[str] = None
    base: Optional[str] = None
    start: Optional[str] = None
    d: Optional[float] = field(default=None, metadata={"rule": between(0, 1, above=True)})
    exact: Optional[dict[str, Any]] = None
    departures: list[str] = field(default_factory=list)
