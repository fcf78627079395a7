"""The closed table of tasks: how a data set's examples become inputs, a loss, predictions and scores."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from peft import TaskType
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from peftbench import metrics
from peftbench.errors import ConfigError
from peftbench.schema import DatasetConfig, RunConfig

Batch = dict[str, torch.Tensor]


class Task(Protocol):
    """One way of solving one kind of task. `n`: examples of a batch."""

    auto_model: Any
    peft_type: TaskType
    #: Further arguments of the model's configuration, such as `num_labels`.
    model_args: dict[str, Any]

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int) -> Any:
        """Token ids of examples; `texts` holds one list a text column."""
        ...

    def terms(self, batch: Batch) -> int:
        """How many loss terms a batch has: what its mean is taken over."""
        ...

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The task's own loss of every term, unreduced, recomputed from the logits: a method may add to
        `outputs.loss`, and what is reported must not contain that."""
        ...

    def predictions(self, outputs: Any) -> torch.Tensor:
        """What is kept of a batch to score it: (n, ...)."""
        ...

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        """From kept predictions to answers, (n,)."""
        ...

    def score(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """The data set's metrics by name."""
        ...


@dataclass(frozen=True)
class Classification:
    """One label of several, from a classification head over one text or a pair.

    Loss: cross entropy of logits (n, labels) against labels (n,). Predictions: the logits.
    """

    config: DatasetConfig
    auto_model: Any = AutoModelForSequenceClassification
    peft_type: TaskType = TaskType.SEQ_CLS

    def __post_init__(self) -> None:
        if len(self.config.text) > 2:
            raise ConfigError(f"dataset.text={self.config.text}: classification takes one text column or two")
        for name in self.config.metrics:
            metrics.get(name)

    @property
    def model_args(self) -> dict[str, Any]:
        names = self.config.labels
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int) -> Any:
        return tokenizer(
            *texts, truncation=True, max_length=max_length, return_attention_mask=False, return_overflowing_tokens=False
        )

    def terms(self, batch: Batch) -> int:
        return len(batch["labels"])

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(outputs.logits.float(), batch["labels"], reduction="none")

    def predictions(self, outputs: Any) -> torch.Tensor:
        return outputs.logits.float()

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        return predictions.argmax(axis=1)

    def score(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        decided = self.decide(predictions)
        return {name: metrics.get(name)(decided, references) for name in self.config.metrics}


#: (task type, formulation) -> how it is solved; the first formulation of a type is what `auto` means.
TASKS: dict[tuple[str, str], Any] = {("classification", "head"): Classification}


def build(config: RunConfig) -> Task:
    """The task of a run.

    Raises:
        ConfigError: no such type, formulation or metric.
    """
    types = sorted({type_ for type_, _ in TASKS})
    if config.dataset.task not in types:
        raise ConfigError(f"dataset.task={config.dataset.task}: allowed are {', '.join(types)}")
    formulations = [formulation for type_, formulation in TASKS if type_ == config.dataset.task]
    wanted = formulations[0] if config.formulation == "auto" else config.formulation
    if wanted not in formulations:
        raise ConfigError(f"formulation={wanted}: {config.dataset.task} is solved as auto, {', '.join(formulations)}")
    return TASKS[config.dataset.task, wanted](config.dataset)
