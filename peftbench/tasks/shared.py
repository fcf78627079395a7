"""What the tasks share: posing examples as texts, scoring, and what no model is given."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.batch import HOST, Arguments, Batch, Inputs
from peftbench.data.encode import Encoded
from peftbench.data.examples import Example, Reader
from peftbench.tasks.base import Answered
from peftbench.tasks.beside import beside
from peftbench.tasks.fitting import Lines, Posed, fit
from peftbench.tasks.metrics import registry
from peftbench.tasks.metrics.by_example import statistics

#: Of a batch, what no model is given: the loss is computed from its logits.
NOT_INPUTS = ("labels", "index", "targets", *HOST)


class Posing:
    """A task that poses every example as one sequence, or as one a choice (with the choice as the field `choice`)."""

    config: DatasetConfig
    reader: Reader
    generates: bool = False

    @property
    def metrics(self) -> list[str]:
        return list(self.config.metrics)

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        """Token ids of whole texts."""
        raise NotImplementedError

    def answers(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> list[list[int]]:
        """Token ids of the answers, where they are tokens."""
        return []

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Nothing to do."""

    def shortened(self, answer: list[int]) -> list[int]:
        """An answer's token ids, cut to what may be written."""
        return answer

    def room(self, answers: list[list[int]], *, training: bool) -> list[int]:
        """The tokens of `max_length` that each sequence keeps free for its answer."""
        return [len(ids) for ids in answers]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool = False
    ) -> Inputs:
        posed, counts = pose(examples)
        uncut = self.answers(tokenizer, [sequence.fields for sequence in posed])
        answers = [self.shortened(ids) for ids in uncut]
        lines, cut = fit(
            tokenizer,
            posed,
            render=lambda fields: started(tokenizer, self.render(tokenizer, fields)),
            beside=self.room(answers, training=training) or [0] * len(posed),
            cuttable=self.config.cut or self.config.text,
            max_length=max_length,
        )
        if training:  # Scoring compares whole answers.
            cut |= {i for i, (ids, left) in enumerate(zip(uncut, answers, strict=True)) if len(left) < len(ids)}
        owners = np.repeat(np.arange(len(counts)), counts)
        return Inputs(
            input_ids=lines["input_ids"],
            token_type_ids=lines.get("token_type_ids", []),
            targets=answers,
            sequences=counts if any(example.choices for example in examples) else [],
            cut=len({int(owners[i]) for i in cut}),
        )

    def inputs(self, batch: Batch) -> Arguments:
        return {k: v for k, v in batch.items() if k not in NOT_INPUTS}

    def terms(self, batch: Batch) -> int:
        return len(batch["labels"])

    def decide(self, predictions: np.ndarray) -> np.ndarray:
        return predictions.argmax(axis=1)

    def answered(self, predictions: Any, examples: Encoded) -> Answered:
        """The answers that the metrics compare. Where examples propose candidates, a group's answer is the one whose
        label 1 is likeliest."""
        if examples.candidates is not None:
            chosen = best_of_groups(label_one(predictions), numbers(examples))
            answers = np.array([examples.candidates[i] for i in chosen], dtype=object)
            return Answered(answers, [(examples.references or [])[i] for i in chosen])
        return Answered(self.decide(predictions), examples.labels.numpy(), numbers(examples))

    def score(self, predictions: Any, examples: Encoded) -> dict[str, float]:
        answered = self.answered(predictions, examples)
        return registry.compute(self.config.metrics, answered.answers, answered.right, groups=answered.groups)

    def statistics(self, predictions: Any, examples: Encoded) -> dict[str, list[list[float] | None]]:
        answered = self.answered(predictions, examples)
        return {} if examples.references is None else _by_row(answered, examples, self.config.metrics)

    def beside(self, predictions: Any, examples: Encoded) -> dict[str, Any]:
        return beside(self.config, self.answered(predictions, examples), judged=not self.generates)


def _by_row(answered: Answered, examples: Encoded, names: Iterable[str]) -> dict[str, list[list[float] | None]]:
    """The statistics that metrics of texts are made of, at the first row of each text's group."""
    rows = np.arange(len(examples))
    if examples.groups is not None and len(answered.answers) < len(examples):
        rows = np.unique(examples.groups.numpy(), return_index=True)[1]
        if examples.candidates is None:  # Texts are in the order of their first rows, candidates in that of groups.
            rows = np.sort(rows)
    made: dict[str, list[list[float] | None]] = {}
    for name in names:
        numbers = statistics(name, list(answered.answers), answered.right)
        if numbers is not None:
            made[name] = [None] * len(examples)
            for row, values in zip(rows.tolist(), numbers, strict=True):
                made[name][row] = values
    return made


def started(tokenizer: PreTrainedTokenizerBase, lines: Lines) -> Lines:
    """The same, with the token that begins texts, or else ends them, where an empty text has none: nothing could be
    read off no token."""
    candidates = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    start = next((int(token) for token in candidates if token is not None), 0)
    return {name: [ids or [start if name == "input_ids" else 0] for ids in many] for name, many in lines.items()}


def pose(examples: Sequence[Example]) -> tuple[list[Posed], list[int]]:
    """The sequences of examples, and how many each has."""
    posed: list[Posed] = []
    counts: list[int] = []
    for example in examples:
        fields = [{**example.fields, "choice": choice} for choice in example.choices] or [example.fields]
        posed += [Posed(f, example.must_stay) for f in fields]
        counts.append(len(fields))
    return posed, counts


def encoding(config: DatasetConfig, *values: object) -> list[Any]:
    """A JSON value of all that decides how a data set's examples are encoded: its configuration without how it is split
    and scored, and `values`."""
    import dataclasses

    apart = ("rows", "metrics", "also", "carve", "evaluation", "suite", "title", "slices")
    return [*values, {k: v for k, v in dataclasses.asdict(config).items() if k not in apart and v is not None}]


def numbers(examples: Encoded) -> np.ndarray | None:
    """(n,) group numbers, or None."""
    return None if examples.groups is None else examples.groups.numpy()


def label_one(predictions: np.ndarray) -> np.ndarray:
    """(n,) log odds of label 1 from two logits."""
    return predictions[:, 1] - predictions[:, 0]


def best_of_groups(scores: np.ndarray, groups: np.ndarray | None) -> list[int]:
    """The example with the highest score of every group, the first of equals, in the order of group numbers."""
    assert groups is not None
    order = np.lexsort((np.arange(len(scores)), -scores, groups))
    firsts = np.unique(groups[order], return_index=True)[1]
    return [int(i) for i in order[firsts]]


def by_example(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """One number a sequence, (s,), as a row an example, (n, most sequences), -inf where there is none."""
    counts = batch.get("sequences")
    if counts is None:
        return values[:, None]
    rows = values.split(counts.tolist())
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=float("-inf"))
