"""Data sets that are scored and not trained on: zero-shot, and with answered training rows in the prompt.

Source: Brown et al. (GPT-3), arXiv 2005.14165, section 2.4: k examples drawn from the training set of the task.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np

from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.examples import Example
from peftbench.errors import ConfigError

#: Training rows that the answered examples are drawn from, at the most.
_POOL = 200

#: The field of an example that holds the answered ones, as the tasks of text look for it.
SHOTS = "{answered examples}"


def split_name(split: str, shots: int) -> str:
    """The name of a split in a record, scored with so many answered examples in the prompt."""
    return f"{split}@{shots}" if shots else split


class HeldOut(TaskDataModule):
    """The official evaluation splits of a data set that isn't trained on.

    `slices` has them by `split_name`. `train` is empty.
    """

    def score_with(self, counts: Sequence[int], seed: int) -> None:
        """Tokenise the splits, with each of these counts of answered examples in their prompts.

        Args:
            seed: what those are drawn by.
        """
        data = self.config.dataset
        self.train = self._encode(data.evaluation[0], np.arange(0))
        for split in data.evaluation:
            for count in counts:
                here = split in self.source.files
                self.slices[split_name(split, count)] = self._with_shots(split, count, seed) if here else None

    def _with_shots(self, split: str, count: int, seed: int) -> Encoded:
        rows = self.rows.scored(split)
        if not count:
            return self._encode(split, rows)
        shots = Shots(self, count, seed)
        return self._encode(split, rows, change=shots.put_before, named=["shots", count, seed, shots.rows.tolist()])


class Demonstrates(Protocol):
    """A task that can put an answered example before a question."""

    def demonstration(self, example: Example, asked: Example) -> str:
        """The text of an answered example, as it stands before the one that is asked."""
        ...


class Shots:
    """Draws, for every row, the answered examples that stand before it: rows of the training split.

    Attributes:
        rows: the training rows that are drawn from.
    """

    def __init__(self, data: HeldOut, count: int, seed: int) -> None:
        self._data, self._count, self._seed = data, count, seed
        train = data.config.dataset.train
        order = data.rows.shuffled(train, data.config.dataset.carve.seed)
        self.rows = np.sort(data.rows.first(order, _POOL, train))
        self._pool = data.rows.examples(train, self.rows)
        self._task = cast(Demonstrates, data.task)
        #: Tokens of all of them take half of an input at the most: the question is what may not be cut away.
        self._room = data.config.recipe.max_length // (2 * count)
        self._lengths: dict[str, int] = {}

    def put_before(self, example: Example) -> Example:
        """The example with its answered ones in its fields.

        Raises:
            ConfigError: too few training rows are short enough.
        """
        shots = self.drawn(example)
        if len(shots) < self._count:
            data, length = self._data.config.dataset.name, self._data.config.recipe.max_length
            raise ConfigError(
                f"dataset.held_out_shots={self._count}: {data} has too few training rows so short that this many fit "
                f"into half of recipe.max_length={length}; allowed is a greater length, or fewer shots"
            )
        texts = [self._task.demonstration(shot, example) for shot in shots]
        return replace(example, fields={**example.fields, SHOTS: "".join(texts)})

    def drawn(self, example: Example) -> list[Example]:
        """The answered examples of a row, the same in every run with this seed: different ones, none of which says what
        the row says."""
        order = np.random.default_rng([self._seed, example.row]).permutation(len(self._pool))
        chosen: list[Example] = []
        seen = {_said(example)}
        for index in order.tolist():
            shot = self._pool[index]
            if _said(shot) not in seen and self._length(shot, example) <= self._room:
                chosen.append(shot)
                seen.add(_said(shot))
            if len(chosen) == self._count:
                break
        return chosen

    def _length(self, shot: Example, example: Example) -> int:
        """Tokens of an answered example."""
        text = self._task.demonstration(shot, example)
        if text not in self._lengths:
            ids = self._data.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            self._lengths[text] = len(ids)
        return self._lengths[text]


def _said(example: Example) -> tuple[tuple[str, str], ...]:
    """The texts of a row, by name, whatever their case and white space."""
    texts = [*example.fields.items(), *((str(i), choice) for i, choice in enumerate(example.choices))]
    return tuple((name, " ".join(text.casefold().split())) for name, text in sorted(texts))
