"""Tasks solved by a head on the model's pooled output."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import TaskType
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from peftbench import metrics
from peftbench.errors import ConfigError
from peftbench.schema import DatasetConfig, RunConfig
from peftbench.tasks.base import Batch

#: Of a batch, what no model is given: the loss is computed from its logits.
NOT_INPUTS = ("labels", "index")


class ScoredLabels:
    """What all ways share that end in one number a label: predictions are these logits, (n, labels).

    Loss: cross entropy of the logits against labels (n,).
    """

    config: DatasetConfig

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """(n, labels), in 32 bits."""
        raise NotImplementedError

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Nothing to do."""

    def inputs(self, batch: Batch) -> Batch:
        return {k: v for k, v in batch.items() if k not in NOT_INPUTS}

    def terms(self, batch: Batch) -> int:
        return len(batch["labels"])

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(self.logits(outputs, batch), batch["labels"], reduction="none")

    def predictions(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return self.logits(outputs, batch)

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        return predictions.argmax(axis=1)

    def score(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        decided = self.decide(predictions)
        return {name: metrics.get(name)(decided, references) for name in self.config.metrics}


@dataclass(frozen=True)
class Classification(ScoredLabels):
    """One label of several, from a classification head over one text or a pair."""

    config: DatasetConfig
    auto_model: Any = AutoModelForSequenceClassification
    peft_type: TaskType = TaskType.SEQ_CLS
    formulation: str = "head"
    encoding: Any = "pair"

    @classmethod
    def build(cls, config: RunConfig) -> "Classification":
        """Raises ConfigError for more than two text columns, or an unknown metric."""
        data = config.dataset
        if len(data.text) > 2:
            raise ConfigError(f"dataset.text={data.text}: classification by a head takes one text column or two")
        for name in data.metrics:
            metrics.get(name)
        return cls(data)

    @property
    def model_args(self) -> dict[str, Any]:
        names = self.config.labels
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
    ) -> tuple[dict[str, list[list[int]]], int]:
        encoded = tokenizer(
            *texts, truncation=True, max_length=max_length, return_attention_mask=False, return_overflowing_tokens=False
        )
        full = [i for i, row in enumerate(encoded["input_ids"]) if len(row) == max_length]
        if not full:
            return encoded, 0
        # Only an example that fills the maximum can have been cut: those few are measured without a limit.
        rows = [[column[i] for i in full] for column in texts]
        whole = tokenizer(*rows, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        return encoded, sum(len(row) > max_length for row in whole)

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return outputs.logits.float()
