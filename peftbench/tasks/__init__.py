"""The closed table of tasks: what kind a data set's task is, and how a model solves it."""

from typing import Any

from peftbench import metrics
from peftbench.errors import ConfigError, NotApplicable, nearest
from peftbench.schema import RunConfig
from peftbench.tasks.base import Batch, Task
from peftbench.tasks.head import Choice, Classification, Regression
from peftbench.tasks.likelihood import Likelihood
from peftbench.tasks.mixture import Mixture
from peftbench.tasks.text import Text
from peftbench.tasks.verbaliser import Verbaliser
from peftbench.tasks.written import Name, Number

__all__ = ["Batch", "Task", "build", "formulation"]

#: (task type, formulation) -> how it is solved.
TASKS: dict[tuple[str, str], Any] = {
    ("classification", "head"): Classification,
    ("classification", "verbaliser"): Verbaliser,
    ("regression", "head"): Regression,
    ("multiple_choice", "head"): Choice,
    ("multiple_choice", "verbaliser"): Likelihood,
    ("span_pair", "head"): Classification,
    ("span_pair", "verbaliser"): Verbaliser,
    ("multi_row", "head"): Classification,
    ("multi_row", "verbaliser"): Verbaliser,
    ("generation", "text"): Text,
    ("classification", "text"): Text,
    ("regression", "text"): Number,
    ("multiple_choice", "text"): Text,
    ("span_pair", "text"): Text,
    ("multi_row", "text"): Text,
    ("mixture", "head"): Mixture,
    ("mixture", "verbaliser"): Mixture,
}

#: What `auto` means by the model's family, unless the method works in another way only.
AUTO = {"encoder": "head", "decoder": "head", "encoder_decoder": "verbaliser"}


def formulation(config: RunConfig) -> str:
    """How a run solves its task.

    Raises:
        ConfigError: no such task type, or it isn't solved that way.
        NotApplicable: the method doesn't work that way.
    """
    types = sorted({type_ for type_, _ in TASKS})
    if config.dataset.task not in types:
        raise ConfigError(f"dataset.task={config.dataset.task}: {nearest(config.dataset.task, types)}")
    known = [name for type_, name in TASKS if type_ == config.dataset.task]
    possible, wanted = config.method.formulations or known, config.formulation
    if wanted == "auto":
        usual, both = AUTO[config.model.family], [name for name in possible if name in known]
        if not both:
            raise NotApplicable(
                f"method={config.method.name}: works with formulation={', '.join(possible)}; "
                f"dataset={config.dataset.name} ({config.dataset.task}) is solved as {', '.join(known)}"
            )
        wanted = usual if usual in both else both[0]
    if wanted not in known:
        raise ConfigError(f"formulation={wanted}: {config.dataset.task} is solved as auto, {', '.join(known)}")
    if wanted not in possible:
        raise NotApplicable(f"method={config.method.name}: works with formulation={', '.join(possible)}, not {wanted}")
    return wanted


def build(config: RunConfig) -> Task:
    """The task of a run; errors as `formulation`, and what the task itself finds wrong in the data set's file."""
    if not config.dataset.metrics:
        raise ConfigError(
            f"dataset.metrics: names none; allowed are {', '.join(metrics.names())}, as {{accuracy: max}}"
        )
    for name in config.dataset.metrics:
        metrics.get(name)
    how = formulation(config)
    # What is put in a gap is named, not judged.
    way: Any = Name if how == "text" and config.dataset.candidates else TASKS[config.dataset.task, how]
    task: Task = way.build(config)
    return task
