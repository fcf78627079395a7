"""Which rows of a run's splits are trained on, selected on and scored."""

from dataclasses import dataclass

import numpy as np

from peftbench.config.types import RunConfig
from peftbench.data import sources
from peftbench.data.examples import Example, Reader
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError


@dataclass(frozen=True)
class ChosenRows:
    """The rows that a run takes. None depends on the run's seed: all seeds and methods meet the same examples."""

    config: RunConfig
    reader: Reader
    source: DataSource

    def examples(self, split: str, rows: np.ndarray) -> list[Example]:
        """Some rows of a split as examples, as they are read, before any tokenizer."""
        return self.reader.examples(sources.read(self.source, split, self.reader.columns).take(rows), rows)

    def carve_size(self) -> int:
        """The number of rows that are carved out of the training split to select on."""
        carve = self.config.dataset.carve
        return max(1, min(carve.at_most, int(sources.count(self.source, self.config.dataset.train) * carve.fraction)))

    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training split that are trained on, in drawn order, and those that are carved out of it."""
        recipe, split = self.config.recipe, self.config.dataset.train
        carves = recipe.selection == "best_on_selection"
        if recipe.shots is not None:
            chosen, others = self._shots(recipe.shots)
            return chosen[: recipe.train_samples], others if carves else others[:0]
        order = self.shuffled(split, self.config.dataset.carve.seed)
        carved = self.first(order, self.carve_size()) if carves else order[:0]
        return order[len(carved) :][: recipe.train_samples], carved

    def _shots(self, shots: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `shots` rows of every class to train on, and as many others to select on. Of a task without classes:
        `shots` groups, or rows, in all.

        Raises:
            ConfigError: the data have fewer.
        """
        recipe, split = self.config.recipe, self.config.dataset.train
        assert recipe.shots_seed is not None
        order = self.shuffled(split, recipe.shots_seed)
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
        """The units and classes of the rows of `order`: the id of the unit that each is sampled with (its group, else
        itself), and its class (0 if the task has none)."""
        reader, split = self.reader, self.config.dataset.train
        groups = self._groups(split)
        classes = None if reader.grouped else reader.classes(sources.read(self.source, split, reader.columns))
        return (
            order if groups is None else groups[order],
            np.zeros(len(order), dtype=int) if classes is None else classes[order],
        )

    def scored(self, split: str) -> np.ndarray:
        """Rows of an evaluation split that are scored, all or `recipe.eval_samples` that are drawn, in the file's
        order."""
        limit = self.config.recipe.eval_samples
        rows = sources.count(self.source, split)
        if limit is None or limit >= rows:
            return np.arange(rows)
        return np.sort(self.first(self.shuffled(split, self.config.dataset.carve.seed), limit, split))

    def shuffled(self, split: str, seed: int) -> np.ndarray:
        """The rows of a split in a drawn order, groups kept together."""
        draw, groups = np.random.default_rng(seed).permutation, self._groups(split)
        if groups is None:
            return draw(sources.count(self.source, split))
        _, numbers = np.unique(groups, return_inverse=True)
        return draw(numbers.max() + 1)[numbers].argsort(kind="stable")

    def first(self, rows: np.ndarray, limit: int | None, split: str | None = None) -> np.ndarray:
        """The first rows, at most `limit`. Groups stay whole: the score of a question needs all of its answers."""
        groups = self._groups(split or self.config.dataset.train)
        if limit is None or limit >= len(rows) or groups is None:
            return rows[:limit]
        ends = np.flatnonzero(np.diff(groups[rows], append=-1)) + 1
        return rows[: max(ends[ends <= limit], default=ends[0])]

    def _groups(self, split: str) -> np.ndarray | None:
        reader = self.reader
        pairs = self.config.dataset.group_size is not None  # Of what is scored; train is another set.
        columns = reader.grouped or reader.together
        if not columns or (pairs and split == self.config.dataset.train):
            return None
        table = sources.read(self.source, split, columns)
        return reader.groups(table, np.arange(table.num_rows))
