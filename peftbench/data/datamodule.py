"""`TaskDataModule`: the splits of a run, tokenised, as loaders."""

import functools
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
from peftbench.data.batch import Batch, widened
from peftbench.data.chosen import ChosenRows
from peftbench.data.encode import Encoded, Encodes, encode
from peftbench.data.examples import Example, Reader, column
from peftbench.data.repeats import Repeats
from peftbench.data.sampler import LengthBucketBatches, Steps, by_length
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError

#: Rows of the training data that are scored, at the most: the figure is a hint at over-fitting, and of 1,000 rows it
#: would cost a small run as much time as its score.
TRAIN_SLICE = 500
#: Positions of a batch on a GPU are a multiple of this.
_MULTIPLE = 8


class TaskDataModule(L.LightningDataModule):
    """Train, selection and evaluation splits by the data set's protocol.

    Attributes:
        rows: which rows of each split the run takes.
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
        self.rows = ChosenRows(config, task.reader, source)
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
            chosen, carved = self.rows.training()
            if not len(chosen):  # One group of rows, which stays together.
                raise ConfigError(
                    f"dataset={data.name}: all of {data.train} is taken to select on; recipe.selection=last"
                )
            self.carved = len(carved)
            self.train = self._encode(data.train, chosen, training=True)
            most = min(self.rows.carve_size(), TRAIN_SLICE)
            slice_of_train = self.rows.first(chosen, min(most, recipe.eval_samples or most))
            self.slices["train"] = self._encode(data.train, slice_of_train)
            selection = self.rows.first(carved, recipe.eval_samples)
            self.slices["selection"] = self._encode(data.train, selection) if len(carved) else None
        else:  # The data have no training split, and the method doesn't look at one.
            self.train = self._encode(data.evaluation[0], np.arange(0))
            self.slices |= {"train": None, "selection": None}
        for split in data.evaluation:
            present = split in self._source.files
            self.slices[split] = self._encode(split, self.rows.scored(split)) if present else None

    def count_repeats(self) -> None:
        """Sets `repeats`: how many scored rows were trained on. Called for a method that trains."""
        self.repeats = repeats.count(self._parts(), self._cache)

    def _parts(self) -> repeats.Parts:
        return [("", self)]

    @property
    def source(self) -> DataSource:
        return self._source

    @property
    def task(self) -> Encodes:
        return self._task

    @property
    def reader(self) -> Reader:
        return self._task.reader

    def perturbed(self, split: str, name: str, seed: int) -> tuple[Encoded, int]:
        """The examples of one of `slices` with their texts changed by a perturbation; and how many it changed."""
        plain = self.slices[split]
        assert plain is not None
        rows = np.unique(plain.rows.numpy())
        texts = self.config.dataset.text

        def change(example: Example) -> Example:
            return perturbations.perturb(example, texts, name, seed)

        before = self.rows.examples(split, rows)
        changed = sum(change(example) != example for example in before)
        return self._encode(split, rows, change=change, named=[name, seed]), changed

    def column(self, split: str, name: str) -> list[Any]:
        """A column's value for each of the examples of one of `slices`, in their order."""
        examples = self.slices[split]
        assert examples is not None
        table = sources.read(self._source, split, [name]).take(examples.rows.numpy())
        return column(table, name)

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
            return [change(example) for example in self.rows.examples(split, rows)]

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
    def epoch_examples(self) -> int:
        """Examples of an epoch."""
        return len(self.train)

    def label_names(self, name: str) -> list[str] | None:
        """The classes' names by index in one of `slices`; None: there are no classes."""
        return self.config.dataset.labels

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
        return self.batches(self.validated)

    def evaluation(self, name: str) -> DataLoader[Batch]:
        """One of `slices`, in batches of like length."""
        examples = self.slices[name]
        assert examples is not None
        return self.batches(examples)

    def batches(self, examples: Encoded) -> DataLoader[Batch]:
        """Examples in batches of like length, to be evaluated."""
        return self._loader(examples, by_length(examples.lengths, self.config.hardware.eval_batch_size))

    def train_once(self) -> DataLoader[Batch]:
        """All training examples once through, the same order each time: for methods that look at data first."""
        return self.batches(self.train)

    def _loader(self, examples: Encoded, batches: "Sampler[list[int]] | list[list[int]]") -> DataLoader[Batch]:
        workers, on_gpu = self.config.hardware.workers, self.config.hardware.accelerator == "gpu"
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=functools.partial(self._collate, examples) if on_gpu else examples.collate,
            # Else each epoch's start would draw from torch's global stream, from which dropout draws.
            generator=torch.Generator().manual_seed(self.config.seed),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
        )

    def _collate(self, examples: Encoded, indices: Sequence[int]) -> Batch:
        """A batch for a GPU, where matrix products are faster by eights, and few widths are few compilations."""
        return widened(examples.collate(indices), examples.pad, multiple=_MULTIPLE, most=self.config.recipe.max_length)
