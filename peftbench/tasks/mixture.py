"""Several data sets solved by one model: a mixture's labels are those of its parts, one behind the other.

With a head that is one classifier as wide as all labels together; with label words every part has its own template and
words. An example is answered and scored on its own part's labels alone: the other logits are -inf, so that its loss is
the cross entropy over its part's labels, as if each part had a head of its own on the shared model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from peft import TaskType
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.batch import HOST, Arguments, Batch
from peftbench.errors import ConfigError
from peftbench.tasks.base import Task
from peftbench.tasks.head import Classification, ScoredLabels
from peftbench.tasks.verbaliser import Verbaliser

#: What stands in tensors where a part's are shorter than another's: the id that models don't look at.
_IGNORED = -100


@dataclass
class Mixture(ScoredLabels):
    """Attributes: `parts`, the tasks of the parts in their order."""

    config: DatasetConfig
    parts: list[Any]
    formulation: str
    reader: Any = None
    generates: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, config: RunConfig, parts: Sequence[Task], wanted: str) -> "Mixture":
        """The tasks of the parts as one, solved as `wanted`.

        Raises:
            ConfigError: a part's examples aren't answered by one label of several.
        """
        for part, task in zip(config.dataset.parts or [], parts, strict=True):
            if not isinstance(task, Classification | Verbaliser):
                raise ConfigError(
                    f"dataset.parts: {part.name} ({part.task}) isn't answered by one label of several; "
                    "formulation=text takes every task type"
                )
        names = config.dataset.labels or []
        head = {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }
        return cls(config.dataset, list(parts), wanted, model_args=head if wanted == "head" else {})

    @property
    def auto_model(self) -> Any:
        return self.parts[0].auto_model

    @property
    def peft_type(self) -> TaskType:
        kind: TaskType = self.parts[0].peft_type
        return kind

    @property
    def encoding(self) -> Any:
        return [part.encoding for part in self.parts]

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        for part in self.parts:
            part.prepare(tokenizer)

    def columns(self, part: int) -> slice:
        """The slice of a part's labels among those of all parts."""
        sizes = [len(task.config.labels) for task in self.parts]
        return slice(sum(sizes[:part]), sum(sizes[: part + 1]))

    def inputs(self, batch: Batch) -> Arguments:
        merged = super().inputs(batch)
        for part, rows, part_batch in self._split(batch):
            for name, values in self.parts[part].inputs(part_batch).items():
                if isinstance(values, int):  # Logits that are kept: as many as the part with the most needs.
                    merged[name] = max(merged.get(name, 0), values)
                elif name not in part_batch or name == "labels":  # What an encoder-decoder is given to answer from.
                    merged[name] = _put(merged.get(name), rows, values, len(batch["input_ids"]))
        return merged

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """(n, all labels), -inf outside an example's part."""
        scores = outputs.logits
        width = sum(len(task.config.labels) for task in self.parts)
        joined = torch.full((len(scores), width), -torch.inf, device=scores.device)
        for part, rows, part_batch in self._split(batch):
            place, mine = self.columns(part), scores[rows]
            if self.formulation == "head":
                mine = mine[:, place]
            elif "labels" in (part_inputs := self.parts[part].inputs(part_batch)):
                mine = mine[:, : part_inputs["labels"].shape[1]]
            joined[rows, place] = self.parts[part].logits(SimpleNamespace(logits=mine), part_batch)
        return joined

    def score(self, predictions: np.ndarray, examples: Any) -> dict[str, float]:
        """One part's metrics, or of several the score of each; `examples`: `Mixed`."""
        start, by_part = 0, {}
        for part, part_examples in examples.pieces:
            of_part = predictions[start : start + len(part_examples), self.columns(part)]
            values = self.parts[part].score(of_part, part_examples)
            if len(examples.pieces) == 1:
                return dict(values)
            by_part[self.parts[part].config.name] = sum(values.values()) / len(values)
            start += len(part_examples)
        return by_part

    def statistics(self, predictions: np.ndarray, examples: Any) -> dict[str, list[list[float] | None]]:
        """The statistics of a split of one part, as that part's task has them; several have no score of one metric."""
        if len(examples.pieces) > 1:
            return {}
        part, part_examples = examples.pieces[0]
        made: dict[str, list[list[float] | None]]
        made = self.parts[part].statistics(predictions[:, self.columns(part)], part_examples)
        return made

    def beside(self, predictions: np.ndarray, examples: Any) -> dict[str, Any]:
        """The figures beside the score of a split of one part, as that part's task has them; of several nothing: their
        classes aren't the same."""
        if len(examples.pieces) > 1:
            return {"also": None, "classes": None}
        part, part_examples = examples.pieces[0]
        values: dict[str, Any] = self.parts[part].beside(predictions[:, self.columns(part)], part_examples)
        return values

    def _split(self, batch: Batch) -> Iterator[tuple[int, torch.Tensor, Batch]]:
        """The parts in a batch: number, rows, and what the batch holds of them."""
        parts = batch.get("part", torch.zeros(len(batch["input_ids"]), dtype=torch.long))
        for part in parts.unique().tolist():
            chosen = (parts == part).nonzero()[:, 0]
            rows = chosen.to(batch["input_ids"].device, non_blocking=True)
            yield part, rows, {k: v[chosen] if k in HOST else v[rows] for k, v in batch.items() if k != "widths"}


def _put(into: torch.Tensor | None, rows: torch.Tensor, values: torch.Tensor, count: int) -> torch.Tensor:
    """Lines of values, (rows, width), put in their places of (count, largest width)."""
    width = max(values.shape[1], 0 if into is None else into.shape[1])
    result = torch.full((count, width), _IGNORED, dtype=values.dtype, device=values.device)
    if into is not None:
        result[:, : into.shape[1]] = into
    result[rows, : values.shape[1]] = values
    return result
