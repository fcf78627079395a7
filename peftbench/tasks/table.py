"""The closed table of tasks: what kind a data set's task is, and how a model solves it."""

from dataclasses import replace
from typing import Any

from peftbench.config.formulations import WAYS, formulation
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.tasks.base import Task
from peftbench.tasks.head import Choice, Classification, Regression
from peftbench.tasks.instructions import TextMixture
from peftbench.tasks.likelihood import Likelihood
from peftbench.tasks.metrics import registry
from peftbench.tasks.mixture import Mixture
from peftbench.tasks.text import Text
from peftbench.tasks.verbaliser import Verbaliser
from peftbench.tasks.written import Name, Number

#: By name, what solves tasks.
_CLASSES: tuple[Any, ...] = (
    Classification,
    Regression,
    Choice,
    Likelihood,
    Mixture,
    Text,
    TextMixture,
    Verbaliser,
    Number,
)

#: (task type, formulation) -> how it is solved.
TASKS: dict[tuple[str, str], Any] = {
    pair: {class_.__name__: class_ for class_ in _CLASSES}[name] for pair, name in WAYS.items()
}


def _check_class_weights(config: RunConfig, how: str) -> None:
    """Raises ConfigError for weights by class where an example's loss isn't that of one declared class."""
    by_class = TASKS[config.dataset.task, how] in (Classification, Verbaliser)
    if config.recipe.class_weights is not None and not by_class:
        raise ConfigError(
            f"recipe.class_weights={config.recipe.class_weights}: dataset={config.dataset.name} "
            f"({config.dataset.task}, formulation={how}) has no loss by class; allowed is null"
        )


def build(config: RunConfig) -> Task:
    """The task of a run.

    Raises:
        ConfigError, NotApplicable: as `formulation`; a metric can't score the task, or the data set's file lacks what
            it needs.
    """
    if not config.dataset.metrics:
        raise ConfigError(
            f"dataset.metrics: names none; allowed are {', '.join(registry.names())}, as {{accuracy: max}}"
        )
    for name, key in registry.keys(config.dataset).items():
        registry.get(name, key)
    if config.dataset.also and config.dataset.parts:
        raise ConfigError("dataset.also: not with dataset=mixture, whose parts have metrics of their own")
    how = formulation(config)
    if config.recipe.loss_on is not None and how != "text":
        raise ConfigError(f"recipe.loss_on={config.recipe.loss_on}: goes with formulation=text; allowed is null")
    _check_class_weights(config, how)
    if config.dataset.parts:
        # A part is no mixture: it is built as its own data set would be.
        every = [*config.dataset.parts, *(config.dataset.held_out or [])]
        parts = [build(replace(config, dataset=part, formulation=how)) for part in every]
        mixture: Any = TASKS[config.dataset.task, how].build(config, parts, how)
        return mixture
    # What is put in a gap is named, not judged.
    task_class: Any = Name if how == "text" and config.dataset.candidates else TASKS[config.dataset.task, how]
    task: Task = task_class.build(config)
    registry.check(config.dataset, task.reader)
    return task
