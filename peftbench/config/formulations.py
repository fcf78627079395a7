"""How a task is solved: by a head, by label words (verbaliser) or by writing (text)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftbench.config.hosted import HOSTED
from peftbench.errors import ConfigError, NotApplicable, nearest

if TYPE_CHECKING:
    from peftbench.config.types import RunConfig

#: (task type, formulation) -> the class in `peftbench.tasks` that solves it.
WAYS = {
    ("classification", "head"): "Classification",
    ("classification", "verbaliser"): "Verbaliser",
    ("regression", "head"): "Regression",
    ("multiple_choice", "head"): "Choice",
    ("multiple_choice", "verbaliser"): "Likelihood",
    ("span_pair", "head"): "Classification",
    ("span_pair", "verbaliser"): "Verbaliser",
    ("multi_row", "head"): "Classification",
    ("multi_row", "verbaliser"): "Verbaliser",
    ("generation", "text"): "Text",
    ("classification", "text"): "Text",
    ("regression", "text"): "Number",
    ("multiple_choice", "text"): "Text",
    ("span_pair", "text"): "Text",
    ("multi_row", "text"): "Text",
    ("mixture", "head"): "Mixture",
    ("mixture", "verbaliser"): "Mixture",
    ("mixture", "text"): "TextMixture",
}

#: What `auto` means by the model's family, unless the method works in another way only.
AUTO = {"encoder": "head", "decoder": "head", "encoder_decoder": "verbaliser", HOSTED: "text"}


def formulation(config: "RunConfig") -> str:
    """The way in which a run solves its task.

    Raises:
        ConfigError: no such task type, or it isn't solved that way.
        NotApplicable: the method doesn't work that way.
    """
    types = sorted({type_ for type_, _ in WAYS})
    if config.dataset.task not in types:
        raise ConfigError(f"dataset.task={config.dataset.task}: {nearest(config.dataset.task, types)}")
    solved_as = _ways(config.dataset.task)
    possible = config.method.formulations or solved_as
    wanted = config.formulation
    if wanted == "auto":
        if not set(possible) & set(solved_as):
            raise NotApplicable(
                f"method={config.method.name}: works with formulation={', '.join(possible)}; "
                f"dataset={config.dataset.name} ({config.dataset.task}) is solved as {', '.join(solved_as)}"
            )
        wanted = _auto(config.model.family, config.dataset.task, possible)
    if wanted not in solved_as:
        raise ConfigError(f"formulation={wanted}: {config.dataset.task} is solved as auto, {', '.join(solved_as)}")
    if wanted not in possible:
        raise NotApplicable(f"method={config.method.name}: works with formulation={', '.join(possible)}, not {wanted}")
    return wanted


def described(config: Mapping[str, Any]) -> str:
    """The way in which a run would solve its task, whether or not it can be done so.

    Args:
        config: a run's configuration as its record keeps it; what is missing there is taken for the usual.
    """
    model, method, dataset = (config.get(group) or {} for group in ("model", "method", "dataset"))
    wanted: str = config.get("formulation") or "auto"
    if wanted != "auto":
        return wanted
    task = dataset.get("task", "")
    return _auto(model.get("family", ""), task, method.get("formulations") or _ways(task))


def _auto(family: str, task: str, possible: Sequence[str]) -> str:
    """The way that `auto` means: the family's usual way, or the first that the method and the task both have."""
    usual, solved_as = AUTO.get(family, "head"), _ways(task)
    shared = [name for name in possible if name in solved_as]
    return usual if usual in shared or not solved_as else [*shared, *solved_as][0]


def _ways(task: str) -> list[str]:
    return [name for type_, name in WAYS if type_ == task]
