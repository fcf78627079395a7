"""`Task`: how a data set's examples become inputs, a loss, predictions and scores."""

from typing import Any, Protocol

import numpy as np
import torch
from peft import TaskType
from transformers import PreTrainedTokenizerBase

Batch = dict[str, torch.Tensor]


class Task(Protocol):
    """One way of solving one kind of task. `n`: examples of a batch."""

    auto_model: Any
    peft_type: TaskType
    #: How it is solved: head, verbaliser or text.
    formulation: str
    #: Further arguments of the model's configuration, such as `num_labels`.
    model_args: dict[str, Any]
    #: JSON value of what decides `encode`, besides the texts and the tokenizer.
    encoding: Any

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Called once, before anything is encoded. Raises ConfigError if the tokenizer can't express the task."""
        ...

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
    ) -> tuple[dict[str, list[list[int]]], int]:
        """`input_ids` (and `token_type_ids`) of examples, and how many were cut; `texts` holds one list a column."""
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

    def score(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """The data set's metrics by name."""
        ...
