"""`TaskDataModule`: the splits of a run, tokenised, as loaders."""

from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from peftbench.data import sources
from peftbench.data.encode import Encoded, encode
from peftbench.data.sampler import LengthBucketBatches, by_length
from peftbench.data.sources import DataSource
from peftbench.schema import RunConfig
from peftbench.tasks.base import Batch, Task


class TaskDataModule(L.LightningDataModule):
    """Train, selection and evaluation splits by the data set's protocol.

    Attributes:
        train: what is trained on; `carved`: how many rows of train were cut out of it.
        slices: what is scored, by name: `train` (a fixed slice of it), `selection` (carved from train; None where the
            recipe carves none) and the official evaluation splits (None where the data lacks one).
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
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
        self._sampler: LengthBucketBatches | None = None

    def setup(self, stage: str | None = None) -> None:
        """Tokenise what the run needs; a second call does nothing."""
        if self.slices:
            return
        data, recipe = self.config.dataset, self.config.recipe
        chosen, carved = self._divide()
        self.carved = len(carved)
        self.train = self._encode(data.train, chosen)
        self.slices["train"] = self.train.first(self._limit(min(self._carve_size(), len(chosen))))
        self.slices["selection"] = self._encode(data.train, carved[: self._limit(len(carved))]) if len(carved) else None
        for split in data.evaluation:
            present = split in self._source.files
            self.slices[split] = self._encode(split, self._draw(split, recipe.eval_samples)) if present else None

    def _rows(self, split: str) -> int:
        return sources.read(self._source, split, [self.config.dataset.label]).num_rows

    def _carve_size(self) -> int:
        carve = self.config.dataset.carve
        return max(1, min(carve.at_most, int(self._rows(self.config.dataset.train) * carve.fraction)))

    def _limit(self, size: int) -> int:
        return min(size, self.config.recipe.eval_samples or size)

    def _divide(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of train that are trained on, in drawn order, and those carved out. Neither depends on the run's seed:
        all seeds and methods meet the same examples."""
        order = self._draw(self.config.dataset.train, None, shuffled=True)
        size = self._carve_size() if self.config.recipe.selection == "best_on_selection" else 0
        carved, rest = order[:size], order[size:]
        return rest[: self.config.recipe.train_samples], carved

    def _draw(self, split: str, limit: int | None, *, shuffled: bool = False) -> np.ndarray:
        rows = self._rows(split)
        if not shuffled and (limit is None or limit >= rows):
            return np.arange(rows)
        order = np.random.default_rng(self.config.dataset.carve.seed).permutation(rows)
        return order if shuffled else np.sort(order[:limit])

    def _encode(self, split: str, rows: np.ndarray) -> Encoded:
        data = self.config.dataset
        table = sources.read(self._source, split, [*data.text, data.label]).take(rows)
        identity = [self._source.fingerprint, self._tokenizer_fingerprint, split, data.text, self._task.encoding]
        return encode(
            self._task,
            self.tokenizer,
            texts=[table.column(column).to_pylist() for column in data.text],
            labels=sources.labels(data, table, f"{data.name}/{split}"),
            rows=rows,
            max_length=self.config.recipe.max_length,
            cache=self._cache,
            identity=identity,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Global batches; the module cuts them to the machine's micro batch."""
        sampler = LengthBucketBatches(
            self.train.lengths, batch_size=self.config.recipe.batch_size, seed=self.config.seed
        )
        self._sampler = sampler
        return self._loader(self.train, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The split that checkpoints are selected on."""
        best_on_validation = self.config.recipe.selection == "best_on_validation"
        return self.evaluation(self.config.dataset.evaluation[0] if best_on_validation else "selection")

    def evaluation(self, name: str) -> DataLoader[Batch]:
        """One of `slices`, in batches of like length."""
        examples = self.slices[name]
        assert examples is not None
        return self._by_length(examples)

    def train_once(self) -> DataLoader[Batch]:
        """All training examples once through, the same order each time: for methods that look at data first."""
        return self._by_length(self.train)

    def _by_length(self, examples: Encoded) -> DataLoader[Batch]:
        return self._loader(examples, by_length(examples.lengths, self.config.hardware.eval_batch_size))

    def _loader(self, examples: Encoded, batches: "LengthBucketBatches | list[list[int]]") -> DataLoader[Batch]:
        workers = self.config.hardware.workers
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=examples.collate,
            # Its own: an epoch's start would otherwise draw from the stream that dropout draws from.
            generator=torch.Generator().manual_seed(self.config.seed),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.config.hardware.accelerator == "gpu",
        )
