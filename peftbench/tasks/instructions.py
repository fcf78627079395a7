"""Several data sets of any task type solved by one model that writes their answers: multi-task instruction tuning.

Source: Chung et al. (FLAN), arXiv 2210.11416, section 2: data sets as questions in words, several templates each, mixed
in proportion to their examples up to a cap, and scored on data sets that were held out, with and without answered
examples in the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peft import TaskType
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.hosted import HOSTED
from peftbench.config.types import RunConfig
from peftbench.data.batch import Arguments, Batch
from peftbench.data.rows import check_template
from peftbench.errors import NotApplicable
from peftbench.tasks.base import Answered
from peftbench.tasks.phrasing import Phrasing
from peftbench.tasks.text import OPTIONS, Text
from peftbench.tasks.verbaliser import ANSWER


@dataclass
class TextMixture:
    """Attributes: `parts`, the text tasks of the data sets that are trained on, then of those that are held out."""

    config: DatasetConfig
    parts: list[Text]
    reader: Any = None
    formulation: str = "text"
    generates: bool = True
    model_args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, config: RunConfig, parts: Sequence[Text], how: str) -> "TextMixture":
        """The text tasks of the data sets as one.

        Raises:
            NotApplicable: the model is behind a server. ConfigError: a template doesn't fit its data set.
        """
        if config.model.family == HOSTED:
            raise NotApplicable(f"model={config.model.name}: a hosted model is asked one data set, not a mixture")
        return cls(config.dataset, [_phrased(task, config.dataset) for task in parts])

    @property
    def auto_model(self) -> Any:
        return self.parts[0].auto_model

    @property
    def peft_type(self) -> TaskType:
        return self.parts[0].peft_type

    @property
    def encoding(self) -> Any:
        return [part.encoding for part in self.parts]

    @property
    def metrics(self) -> list[str]:
        return list(self.config.metrics)

    @property
    def generation(self) -> dict[str, Any]:
        """Arguments of `generate`, of the part that writes the longest answers."""
        return max((part.generation for part in self.parts), key=lambda arguments: arguments["max_new_tokens"])

    def generation_of(self, part: int) -> dict[str, Any]:
        return self.parts[part].generation

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        for part in self.parts:
            part.prepare(tokenizer)

    def columns(self, part: int) -> slice:
        """All of them: answers that are written aren't told apart by columns."""
        return slice(0, None)

    # What a batch becomes doesn't depend on the parts in it: their questions are encoded by each part's own task.

    def inputs(self, batch: Batch) -> Arguments:
        return self.parts[0].inputs(batch)

    def answer_places(self, batch: Batch) -> torch.Tensor:
        return self.parts[0].answer_places(batch)

    def terms(self, batch: Batch) -> int:
        return self.parts[0].terms(batch)

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return self.parts[0].losses(outputs, batch)

    def prompt(self, batch: Batch) -> Batch:
        return self.parts[0].prompt(batch)

    def decode(self, ids: torch.Tensor, batch: Batch) -> list[str]:
        return self.parts[0].decode(ids, batch)

    def written(self, ids: torch.Tensor, batch: Batch) -> int:
        return self.parts[0].written(ids, batch)

    def score(self, predictions: list[str], examples: Any) -> dict[str, float]:
        """One part's metrics, or of several the score of each; `examples`: `Mixed`."""
        start, by_part = 0, {}
        for part, part_examples in examples.pieces:
            values = self.parts[part].score(predictions[start : start + len(part_examples)], part_examples)
            if len(examples.pieces) == 1:
                return dict(values)
            by_part[self.parts[part].config.name] = sum(values.values()) / len(values)
            start += len(part_examples)
        return by_part

    def answered(self, predictions: list[str], examples: Any) -> Answered:
        """The answers that the texts count as, part by part."""
        start, by_part = 0, []
        for part, part_examples in examples.pieces:
            by_part.append(self.parts[part].answered(predictions[start : start + len(part_examples)], part_examples))
            start += len(part_examples)
        if len(by_part) == 1:
            return by_part[0]
        return Answered([a for one in by_part for a in one.answers], [r for one in by_part for r in one.right])

    def statistics(self, predictions: list[str], examples: Any) -> dict[str, list[list[float] | None]]:
        """The statistics of a split of one part, as that part's task has them; several have no score of one metric."""
        if len(examples.pieces) > 1:
            return {}
        part, part_examples = examples.pieces[0]
        return self.parts[part].statistics(predictions, part_examples)

    def beside(self, predictions: list[str], examples: Any) -> dict[str, Any]:
        """The figures beside the score of a split of one part, as that part's task has them; of several nothing: their
        answers aren't the same."""
        if len(examples.pieces) > 1:
            return {"also": None, "classes": None}
        part, part_examples = examples.pieces[0]
        return self.parts[part].beside(predictions, part_examples)


def _phrased(task: Text, mixture: DatasetConfig) -> Text:
    """A data set's task with its templates, or its one template where it has no others."""
    data = task.config
    fields = [*(name for name in task.reader.fields if name != "choice"), OPTIONS]
    for template in data.templates or []:
        check_template("dataset.templates", template, fields, once=ANSWER)
    templates = data.templates or [task.template]
    return replace(task, phrasing=Phrasing(data.name, templates, mixture.template_seed or 0, mixture.chat))
