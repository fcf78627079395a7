"""What a metric can score, said beside the metric: `@scores(...)` is what makes a function one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

#: The kinds of answers.
LABELS, NUMBERS, TEXTS = "labels", "numbers", "texts"

Metric = Callable[..., float]
_Metric = TypeVar("_Metric", bound=Metric)


@dataclass(frozen=True)
class Scope:
    """The scope of a metric: what it can score.

    Attributes:
        kind: what it compares: labels, numbers or texts.
        classes: of how many declared classes the labels must be; None: of any number.
        groups: whether it scores rows that belong together.
        mean: of texts, whether it is the mean of what single ones score.
    """

    kind: str
    classes: int | None = None
    groups: bool = False
    mean: bool = False

    def __str__(self) -> str:
        kind = self.kind if self.classes is None else f"labels of {self.classes} classes"
        return f"{kind} in groups" if self.groups else kind


@dataclass(frozen=True)
class AnswerType:
    """The answers that a data set takes.

    Attributes:
        kind: labels, numbers or texts.
        classes: of labels, how many classes are declared; None: every example has choices of its own.
        groups: whether rows belong together.
    """

    kind: str
    classes: int | None = None
    groups: bool = False

    def __str__(self) -> str:
        if self.kind != LABELS:
            return self.kind
        which = "choices" if self.classes is None else f"labels of {self.classes} classes"
        return f"{which} in groups" if self.groups else which

    def suit(self, scope: Scope) -> bool:
        """True if a metric of this scope can score them."""
        return (
            self.kind == scope.kind
            and (scope.classes is None or scope.classes == self.classes)
            and (self.groups or not scope.groups)
        )


#: By name, every metric.
METRICS: dict[str, Metric] = {}
_SCOPES: dict[str, Scope] = {}


def scores(kind: str, **scope: Any) -> Callable[[_Metric], _Metric]:
    """Marks a function as the metric of its name; arguments as `Scope`."""

    def mark(function: _Metric) -> _Metric:
        name = function.__name__
        METRICS[name], _SCOPES[name] = function, Scope(kind, **scope)
        return function

    return mark


def scope(name: str) -> Scope:
    """The scope of a metric: the answers that it can score."""
    return _SCOPES[name]
