"""Tasks solved by a head on the model's pooled output."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import TaskType
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch
from peftbench.data.examples import NO_LABEL, Reader
from peftbench.data.readers import reader
from peftbench.data.rows import check_template
from peftbench.data.templates import fill
from peftbench.errors import ConfigError
from peftbench.tasks.fitting import Lines
from peftbench.tasks.shared import Posing, by_example, encoding


class ScoredLabels(Posing):
    """A way to pose a task that ends in one number a label: predictions are these logits, (n, labels).

    Loss: cross entropy of the logits against labels (n,).
    """

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """(n, labels), in 32 bits."""
        raise NotImplementedError

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(self.logits(outputs, batch), batch["labels"], reduction="none", ignore_index=NO_LABEL)

    def predictions(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return self.logits(outputs, batch)


@dataclass(frozen=True)
class Head(ScoredLabels):
    """A classification head over one text or a pair: `dataset.inputs`, or else the text columns."""

    config: DatasetConfig
    reader: Reader
    templates: list[str]
    auto_model: Any = AutoModelForSequenceClassification
    peft_type: TaskType = TaskType.SEQ_CLS
    formulation: str = "head"
    generates: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, config: RunConfig) -> "Head":
        """Raises ConfigError for inputs that aren't one text or two, or name what isn't there."""
        data, read = config.dataset, reader(config.dataset)
        templates = data.inputs or [f"{{{name}}}" for name in data.text]
        if len(templates) > 2:
            raise ConfigError(
                f"dataset.text={data.text}: formulation=head takes one text or a pair; "
                "dataset.inputs makes one or two of several columns"
            )
        named = [name for template in templates for name in check_template("dataset.inputs", template, read.fields)]
        missing = set(read.fields) - set(named) if data.inputs else set()
        if missing & set(data.text):
            raise ConfigError(f"dataset.inputs: leaves out {', '.join(sorted(missing & set(data.text)))}")
        return cls(data, read, templates, model_args=cls.arguments(data))

    @staticmethod
    def arguments(data: DatasetConfig) -> dict[str, Any]:
        """Arguments of the model's configuration that the head needs."""
        raise NotImplementedError

    @property
    def encoding(self) -> Any:
        return encoding(self.config, "head", type(self).__name__)

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        texts = [[fill(template, f) for f in fields] for template in self.templates]
        encoded = tokenizer(*texts, truncation=False, return_attention_mask=False, verbose=False)
        return {name: list(encoded[name]) for name in ("input_ids", "token_type_ids") if name in encoded}

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return outputs.logits.float()


class Classification(Head):
    """One label of several."""

    @staticmethod
    def arguments(data: DatasetConfig) -> dict[str, Any]:
        names = data.labels or []
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }


class Regression(Head):
    """A number, (n, 1). Loss: the squared error. Source: GLUE, arXiv 1804.07461, as for STS-B."""

    @staticmethod
    def arguments(data: DatasetConfig) -> dict[str, Any]:
        return {"num_labels": 1}

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return F.mse_loss(self.logits(outputs, batch)[:, 0], batch["labels"], reduction="none")

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        return predictions[:, 0]


class Choice(Head):
    """One choice of several: a sequence and one logit each, (n, most choices), -inf where an example has fewer.

    Loss: cross entropy over an example's choices. Source: Devlin et al., arXiv 1810.04805, section 4.4 (SWAG); by a
    classifier of single sequences, because the models made for choices fail under prompt methods.
    """

    @staticmethod
    def arguments(data: DatasetConfig) -> dict[str, Any]:
        return {"num_labels": 1}

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return by_example(outputs.logits.float()[:, 0], batch)
