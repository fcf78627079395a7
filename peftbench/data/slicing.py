"""Whether a run's data can be evaluated beyond its score: said before anything is trained."""

from typing import Any

from peftbench.config.types import RunConfig
from peftbench.data import sources
from peftbench.data.examples import column
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError

#: Values that a column may have to be sliced by.
MOST = 50


def check(config: RunConfig, source: DataSource) -> None:
    """Raises ConfigError for a mixture, for a column of too many values, and for texts that a perturbation would break.
    That the columns are there the data's own check says."""
    data, asked = config.dataset, config.evaluation
    if data.parts and (asked is not None or data.slices):
        key = "evaluation" if asked is not None else "dataset.slices"
        raise ConfigError(f"{key}: not for a mixture; its parts can be evaluated so one by one")
    if asked is not None and asked.perturbations and data.placeholder:
        raise ConfigError(
            f"evaluation.perturbations={asked.perturbations}: dataset={data.name} has a placeholder in its texts; "
            "allowed is []"
        )
    for name in data.slices or []:
        if data.evaluation[0] in source.files:
            count = len(set(names(column(sources.read(source, data.evaluation[0], [name]), name))))
            if count > MOST:
                raise ConfigError(f"dataset.slices={name}: it has {count} values; allowed are {MOST} at most")


def names(values: list[Any]) -> list[str]:
    """A column's values as a record names slices; nothing is "" there."""
    return ["" if value is None else str(value) for value in values]
