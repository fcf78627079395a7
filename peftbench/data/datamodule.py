"""`TaskDataModule`: the splits of a run, tokenised, as loaders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerBase

from peftbench.config.types import RunConfig
from peftbench.data import perturbations, repeats, sources
from peftbench.data.batch import Batch
from peftbench.data.encode import Encoded, Encodes, encode
from peftbench.data.examples import Example, Reader, column
from peftbench.data.repeats import Repeats
from peftbench.data.sampler import LengthBucketBatches, Steps, by_length
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError

#: Rows of the training data that are scored, at the most: the figure is a hint at over-fitting, and of 1,000 rows it
#: would cost a small run as much time as its score.
TRAIN_SLICE = 500


class TaskDataModule(L.LightningDataModule):
    """Train, selection and evaluation splits by the data set's protocol.

    Attributes:
        train: what is trained on; `carved`: how many rows of train were cut out of it.
        slices: what is scored, by name: `train` (a fixed slice of it), `selection` (carved from train; None where the
            recipe carves none) and the official evaluation splits (None where the data lacks one).
        repeats: of the official evaluation splits, how many rows are among those trained on; empty: not counted.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Encodes,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: DataSource,
        tokenizer_fingerprint: str,
        cache: Path,
    ) -> None:
        super().__init__()
        self.config = config
        self._task, self.tokenizer, self._source = task, tokenizer, source
        task.prepare(tokenizer)
        self._tokenizer_fingerprint, self._cache = tokenizer_fingerprint, cache
        self.train: Encoded
        self.carved = 0
        self.slices: dict[str, Encoded | None] = {}
        self.repeats: dict[str, Repeats] = {}

    def setup(self, stage: str | None = None) -> None:
        """Tokenise what the run needs; a second call does nothing."""
        if self.slices:
            return
        data, recipe = self.config.dataset, self.config.recipe
        if data.train in self._source.files:
            chosen, carved = self._divide()
            if not len(chosen):  # One group of rows, which stays together.
                raise ConfigError(
                    f"dataset={data.name}: all of {data.train} is taken to select on; recipe.selection=last"
                )
            self.carved = len(carved)
            self.train = self._encode(data.train, chosen, training=True)
            self.slices["train"] = self._encode(
                data.train, self._first(chosen, self._limit(min(self._carve_size(), TRAIN_SLICE)))
            )
            selection = self._first(carved, recipe.eval_samples)
            self.slices["selection"] = self._encode(data.train, selection) if len(carved) else None
        else:  # The data have no training split, and the method doesn't look at one.
            self.train = self._encode(data.evaluation[0], np.arange(0))
            self.slices |= {"train": None, "selection": None}
        for split in data.evaluation:
            present = split in self._source.files
            self.slices[split] = self._encode(split, self._draw(split, recipe.eval_samples)) if present else None

    def training_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training split that are trained on, in drawn order, and those that are carved out of it."""
        return self._divide()

    def scored_rows(self, split: str) -> np.ndarray:
        """Rows of an evaluation split that are scored, in the file's order."""
        return self._draw(split, self.config.recipe.eval_samples)

    def examples(self, split: str, rows: np.ndarray) -> list[Example]:
        """Some rows of a split as examples, as they are read, before any tokenizer."""
        reader = self._task.reader
        return reader.examples(sources.read(self._source, split, reader.columns).take(rows), rows)

    def count_repeats(self) -> None:
        """Sets `repeats`: how many scored rows were trained on. Called for a method that trains."""
        self.repeats = repeats.count(self._parts(), self._cache)

    def _parts(self) -> repeats.Parts:
        return [("", self)]

    @property
    def source(self) -> DataSource:
        return self._source

    @property
    def reader(self) -> Reader:
        return self._task.reader

    def _carve_size(self) -> int:
        carve = self.config.dataset.carve
        return max(1, min(carve.at_most, int(sources.count(self._source, self.config.dataset.train) * carve.fraction)))

    def _limit(self, size: int) -> int:
        return min(size, self.config.recipe.eval_samples or size)

    def _divide(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of train that are trained on, in drawn order, and those carved out. Neither depends on the run's seed:
        all seeds and methods meet the same examples."""
        recipe, split = self.config.recipe, self.config.dataset.train
        carves = recipe.selection == "best_on_selection"
        if recipe.shots is not None:
            chosen, others = self._shots(recipe.shots)
            return chosen[: recipe.train_samples], others if carves else others[:0]
        order = self._shuffled(split, self.config.dataset.carve.seed)
        carved = self._first(order, self._carve_size()) if carves else order[:0]
        return order[len(carved) :][: recipe.train_samples], carved

    def _shots(self, shots: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `shots` rows of every class to train on, and as many others to select on. Of a task without classes:
        `shots` groups, or rows, in all.

        Raises:
            ConfigError: the data have fewer.
        """
        recipe, split = self.config.recipe, self.config.dataset.train
        assert recipe.shots_seed is not None
        order = self._shuffled(split, recipe.shots_seed)
        units, kinds = self._units(order)
        ranks = np.zeros(len(order), dtype=int)
        for kind in np.unique(kinds):
            members = np.flatnonzero(kinds == kind)
            numbers = {unit: rank for rank, unit in enumerate(dict.fromkeys(units[members].tolist()))}
            needed = 2 * shots if recipe.selection == "best_on_selection" else shots
            if len(numbers) < needed:
                raise ConfigError(
                    f"recipe.shots={shots}: {self.config.dataset.name} has {len(numbers)} of one kind, and {needed} "
                    "are needed (as many to select on as to train on; recipe.selection=last needs half)"
                )
            ranks[members] = [numbers[unit] for unit in units[members].tolist()]
        return order[ranks < shots], order[(ranks >= shots) & (ranks < 2 * shots)]

    def _units(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each row of `order`: the id of the unit it is sampled with (its group, else itself) and its class (0 if
        the task has none)."""
        reader, split = self._task.reader, self.config.dataset.train
        groups = self._groups(split)
        classes = None if reader.grouped else reader.classes(sources.read(self._source, split, reader.columns))
        return (
            order if groups is None else groups[order],
            np.zeros(len(order), dtype=int) if classes is None else classes[order],
        )

    def _draw(self, split: str, limit: int | None) -> np.ndarray:
        """Draws rows of a split, all or at most `limit`, and gives them in the file's order."""
        rows = sources.count(self._source, split)
        if limit is None or limit >= rows:
            return np.arange(rows)
        return np.sort(self._first(self._shuffled(split, self.config.dataset.carve.seed), limit, split))

    def _shuffled(self, split: str, seed: int) -> np.ndarray:
        """The rows of a split in a drawn order, groups kept together."""
        draw, groups = np.random.default_rng(seed).permutation, self._groups(split)
        if groups is None:
            return draw(sources.count(self._source, split))
        _, numbers = np.unique(groups, return_inverse=True)
        return draw(numbers.max() + 1)[numbers].argsort(kind="stable")

    def _first(self, rows: np.ndarray, limit: int | None, split: str | None = None) -> np.ndarray:
        """The first rows, at most `limit`. Groups stay whole: the score of a question needs all of its answers."""
        groups = self._groups(split or self.config.dataset.train)
        if limit is None or limit >= len(rows) or groups is None:
            return rows[:limit]
        ends = np.flatnonzero(np.diff(groups[rows], append=-1)) + 1
        return rows[: max(ends[ends <= limit], default=ends[0])]

    def _groups(self, split: str) -> np.ndarray | None:
        reader = self._task.reader
        pairs = self.config.dataset.group_size is not None  # Of what is scored; train is another set.
        columns = reader.grouped or reader.together
        if not columns or (pairs and split == self.config.dataset.train):
            return None
        table = sources.read(self._source, split, columns)
        return reader.groups(table, np.arange(table.num_rows))

    def perturbed(self, split: str, name: str, seed: int) -> tuple[Encoded, int]:
        """The examples of one of `slices` with their texts changed by a perturbation; and how many it changed."""
        plain = self.slices[split]
        assert plain is not None
        rows = np.unique(plain.rows.numpy())
        texts = self.config.dataset.text

        def change(example: Example) -> Example:
            return perturbations.perturb(example, texts, name, seed)

        before = self._examples(split, rows)
        changed = sum(change(example) != example for example in before)
        return self._encode(split, rows, change=change, named=[name, seed]), changed

    def column(self, split: str, name: str) -> list[Any]:
        """A column's value for each of the examples of one of `slices`, in their order."""
        examples = self.slices[split]
        assert examples is not None
        table = sources.read(self._source, split, [name]).take(examples.rows.numpy())
        return column(table, name)

    def _examples(self, split: str, rows: np.ndarray) -> list[Example]:
        reader = self._task.reader
        return reader.examples(sources.read(self._source, split, reader.columns).take(rows), rows)

    def _encode(
        self,
        split: str,
        rows: np.ndarray,
        *,
        training: bool = False,
        change: Callable[[Example], Example] = lambda example: example,
        named: Sequence[Any] = (),
    ) -> Encoded:
        """Tokenised rows of a split.

        Args:
            change: made to every example before it is tokenised; `named`: what names it in the cache.
        """

        def read() -> list[Example]:
            return [change(example) for example in self._examples(split, rows)]

        # The files of this split by themselves: the fingerprint of a whole doesn't say which is which.
        contents = [self._source.checksums.get(file) for file in self._source.files[split]]
        data, tokenizer = [self._source.fingerprint, contents], self._tokenizer_fingerprint
        return encode(
            self._task,
            self.tokenizer,
            read=read,
            max_length=self.config.recipe.max_length,
            cache=self._cache,
            identity=[data, tokenizer, split, self._task.encoding, rows.tolist(), *named],
            training=training,
        )

    def train_dataloader(self, steps: int | None = None, start: int = 0) -> DataLoader[Batch]:
        """Global batches; the module cuts them to the machine's micro batch.

        Args:
            steps: optimiser steps of the run, over as many epochs as that takes; None: one epoch's.
            start: the step to go on from.
        """
        epochs = self._epochs()
        return self._loader(self.train, epochs if steps is None else Steps(epochs, total=steps, start=start))

    def _epochs(self) -> LengthBucketBatches:
        return LengthBucketBatches(self.train.lengths, batch_size=self.config.recipe.batch_size, seed=self.config.seed)

    @property
    def headline(self) -> list[str]:
        """The slices whose mean score is the run's."""
        return [self.config.dataset.evaluation[0]]

    @property
    def validated(self) -> Encoded:
        """The slice that checkpoints are selected on."""
        best_on_validation = self.config.recipe.selection == "best_on_validation"
        examples = self.slices[self.config.dataset.evaluation[0] if best_on_validation else "selection"]
        assert examples is not None
        if examples.hidden:
            raise ConfigError("recipe.selection=best_on_validation: the labels of the evaluation split are hidden")
        return examples

    def val_dataloader(self) -> DataLoader[Batch]:
        """`validated`, in batches of like length."""
        return self._by_length(self.validated)

    def evaluation(self, name: str) -> DataLoader[Batch]:
        """One of `slices`, in batches of like length."""
        examples = self.slices[name]
        assert examples is not None
        return self.batches(examples)

    def batches(self, examples: Encoded) -> DataLoader[Batch]:
        """Examples in batches of like length, to be evaluated."""
        return self._by_length(examples)

    def train_once(self) -> DataLoader[Batch]:
        """All training examples once through, the same order each time: for methods that look at data first."""
        return self._by_length(self.train)

    def _by_length(self, examples: Encoded) -> DataLoader[Batch]:
        return self._loader(examples, by_length(examples.lengths, self.config.hardware.eval_batch_size))

    def _loader(self, examples: Encoded, batches: "Sampler[list[int]] | list[list[int]]") -> DataLoader[Batch]:
        workers = self.config.hardware.workers
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=examples.collate,
            # Else each epoch's start would draw from torch's global stream, from which dropout draws.
            generator=torch.Generator().manual_seed(self.config.seed),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.config.hardware.accelerator == "gpu",
        )
