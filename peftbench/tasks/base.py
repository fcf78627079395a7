"""`Task`: how examples become inputs, a loss, predictions and scores."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from peft import TaskType
from transformers import PreTrainedTokenizerBase

from peftbench.data.examples import Example, Reader

if TYPE_CHECKING:
    from peftbench.data.encode import Encoded

Batch = dict[str, torch.Tensor]


@dataclass
class Inputs:
    """Examples as token ids: s sequences, in the order of their examples.

    Attributes:
        input_ids: s lists; `token_type_ids` the same, or empty where the model has none.
        targets: s lists, the answers' ids; empty where answers are labels.
        sequences: by example, how many it has; empty where each has one.
        cut: how many examples were cut.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    token_type_ids: list[list[int]] = field(default_factory=list)
    targets: list[list[int]] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    cut: int = 0

    def extend(self, other: "Inputs") -> None:
        """Add what follows."""
        self.input_ids += other.input_ids
        self.token_type_ids += other.token_type_ids
        self.targets += other.targets
        self.sequences += other.sequences
        self.cut += other.cut


class Task(Protocol):
    """One way of solving one kind of task. `n`: examples of a batch; some tasks give each several sequences."""

    auto_model: Any
    peft_type: TaskType
    #: How it is solved: head, verbaliser or text.
    formulation: str
    #: Further arguments of the model's configuration, such as `num_labels`.
    model_args: dict[str, Any]
    #: How rows become examples.
    reader: Reader
    #: Names of the data set's metrics.
    metrics: list[str]
    #: JSON value of what decides `encode`, besides the examples and the tokenizer.
    encoding: Any
    #: Whether predictions are texts that the model writes (`prompt`, `generation` and `decode`, which the others lack).
    generates: bool

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Called once, before anything is encoded. Raises ConfigError if the tokenizer can't express the task."""
        ...

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool = False
    ) -> Inputs:
        """Token ids of examples, none longer than `max_length`, to train on or (the same, unless answers are written)
        to score. Raises ConfigError if what mustn't be cut is longer."""
        ...

    def inputs(self, batch: Batch) -> Batch:
        """Of a collated batch, what the model is called with."""
        ...

    def terms(self, batch: Batch) -> int:
        """How many loss terms a batch has: what its mean is taken over."""
        ...

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The task's own loss of every term, unreduced, recomputed from the logits: a method may add to
        `outputs.loss`, and what is reported must not contain that."""
        ...

    def predictions(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """What is kept of a batch to score it: (n, ...)."""
        ...

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """From kept predictions to answers, (n,)."""
        ...

    def score(self, predictions: Any, examples: "Encoded") -> dict[str, float]:
        """The data set's metrics by name; `predictions`: those of all examples, in their order."""
        ...


class Generating(Task, Protocol):
    """A task whose predictions are texts (`generates`)."""

    #: Arguments of `generate`: beams, length.
    generation: dict[str, Any]

    def prompt(self, batch: Batch) -> Batch:
        """Of a collated batch, what `generate` is called with: no answer among it."""
        ...

    def decode(self, ids: torch.Tensor, batch: Batch) -> list[str]:
        """What `generate` gave, as the n answers' texts."""
        ...

    def written(self, ids: torch.Tensor, batch: Batch) -> int:
        """How many tokens of what `generate` gave are the answers', padding and ends left out."""
        ...
