"""`Task`: how examples become inputs, a loss, predictions and scores."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from peft import TaskType

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.batch import Arguments, Batch
from peftbench.data.encode import Encoded, Encodes


@dataclass(frozen=True)
class Answered:
    """The answers and right ones that metrics compare.

    Attributes:
        answers: (n,) labels, numbers or texts; `right`: the same, or a list of right texts each.
        groups: (n,) numbers of what is scored together; None: every answer for itself.
    """

    answers: Any
    right: Any
    groups: np.ndarray | None = None


class Task(Encodes, Protocol):
    """One way of solving one kind of task. `n`: examples of a batch; some tasks give each several sequences."""

    @property
    def config(self) -> DatasetConfig: ...

    @property
    def auto_model(self) -> Any: ...

    @property
    def peft_type(self) -> TaskType: ...

    @property
    def formulation(self) -> str:
        """The way it is solved: head, verbaliser or text."""
        ...

    @property
    def model_args(self) -> dict[str, Any]:
        """Further arguments of the model's configuration, such as `num_labels`."""
        ...

    @property
    def metrics(self) -> list[str]:
        """Names of the data set's metrics."""
        ...

    def inputs(self, batch: Batch) -> Arguments:
        """Picks from a collated batch the arguments that the model is called with."""
        ...

    def terms(self, batch: Batch) -> int:
        """Counts the loss terms of a batch, over which its mean is taken: examples, or tokens of written answers."""
        ...

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The task's own loss of every term, unreduced, recomputed from the logits: a method may add to
        `outputs.loss`, and what is reported must not contain that."""
        ...

    def predictions(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The part of the model's outputs that scoring needs, (n, ...): logits, unless answers are written."""
        ...

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """Turns predictions into answers, (n,): labels, or numbers."""
        ...

    def score(self, predictions: Any, examples: Encoded) -> dict[str, float]:
        """Computes the data set's metrics, by name, from the predictions of all examples in their order."""
        ...

    def statistics(self, predictions: Any, examples: Encoded) -> dict[str, list[list[float] | None]]:
        """Computes by metric of texts what it is made of (`metrics.by_example`), a list for each example; None for one
        that is scored together with an earlier one. Empty where answers are labels or numbers."""
        ...

    def beside(self, predictions: Any, examples: Encoded) -> dict[str, Any]:
        """Computes what a record has beside the score, of the same predictions: `also` and `classes`, as `beside`."""
        ...


class Generating(Task, Protocol):
    """A task whose predictions are texts (`generates`)."""

    @property
    def generation(self) -> dict[str, Any]:
        """Arguments of `generate`: beams, length."""
        ...

    def prompt(self, batch: Batch) -> Batch:
        """Picks from a collated batch the arguments of `generate`, without any answer."""
        ...

    def answered(self, predictions: Any, examples: Encoded) -> Answered:
        """The answers that metrics compare: texts, or what they count as where labels or numbers are asked for."""
        ...

    def generation_of(self, part: int) -> dict[str, Any]:
        """The same of a mixture's part, by its number; the part of a batch's examples, which are all of one."""
        ...

    def answer_places(self, batch: Batch) -> torch.Tensor:
        """The position of every sequence, (n,), that its answer begins at, for methods that put something there."""
        ...

    def decode(self, ids: torch.Tensor, batch: Batch) -> list[str]:
        """Decodes the ids that `generate` returned into the n answers' texts."""
        ...

    def written(self, ids: torch.Tensor, batch: Batch) -> int:
        """Counts the answers' tokens among those that `generate` returned, without padding and end tokens."""
        ...
