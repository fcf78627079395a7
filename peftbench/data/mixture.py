"""Several data sets trained on at once, one behind the other in one set of examples."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.batch import Batch
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded, Encodes
from peftbench.data.examples import NO_LABEL
from peftbench.data.held_out import HeldOut
from peftbench.data.repeats import Parts
from peftbench.data.sampler import LengthBucketBatches


@dataclass(frozen=True)
class Mixed(Encoded):
    """Examples of several parts, those of a part together; labels count through all parts' labels.

    Attributes:
        pieces: the number of each part that is here and its own examples, in order.
        part: (n,) the number of each example's part.
    """

    pieces: tuple[tuple[int, Encoded], ...] = ()
    part: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @property
    def row_count(self) -> int:
        return sum(examples.row_count for _, examples in self.pieces)

    def collate(self, indices: Sequence[int]) -> Batch:
        """Collates as `Encoded.collate`, and adds `part`, (n,): the number of each example's part."""
        return {**super().collate(indices), "part": self.part[torch.as_tensor(list(indices))]}


def join(pieces: Sequence[tuple[int, Encoded]], first_labels: Sequence[int]) -> Mixed:
    """Examples of parts, one behind the other.

    Args:
        pieces: numbers of parts and their examples, of one sequence and one label each.
        first_labels: by part's number, where its labels begin among all.
    """
    sets = [examples for _, examples in pieces]
    types = [examples.types for examples in sets if examples.types is not None]
    return Mixed(
        tokens=torch.cat([examples.tokens for examples in sets]),
        types=torch.cat(types) if len(types) == len(sets) else None,
        offsets=_joined_offsets([examples.offsets for examples in sets]),
        labels=torch.cat([_shifted(examples.labels, first_labels[number]) for number, examples in pieces]),
        rows=torch.cat([examples.rows for examples in sets]),
        truncated=sum(examples.truncated for examples in sets),
        pad=sets[0].pad,
        **_written(sets),
        pieces=tuple(pieces),
        part=torch.cat([torch.full((len(examples),), number) for number, examples in pieces]),
    )


def _joined_offsets(offsets: Sequence[torch.Tensor]) -> torch.Tensor:
    lengths = torch.cat([each.diff() for each in offsets])
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def _written(sets: Sequence[Encoded]) -> dict[str, Any]:
    """The fields that sets whose answers are written have beside labels, joined. Groups of several sets have nothing in
    common: each scores its own."""
    targets = [examples.targets for examples in sets if examples.targets is not None]
    offsets = [examples.target_offsets for examples in sets if examples.target_offsets is not None]
    if len(targets) < len(sets):
        return {}
    references = None
    if any(examples.references is not None for examples in sets):
        references = [texts for examples in sets for texts in examples.references or [[]] * len(examples)]
    groups = sets[0].groups if len(sets) == 1 else None
    joined = {"targets": torch.cat(targets), "target_offsets": _joined_offsets(offsets)}
    return {**joined, "references": references, "groups": groups}


def _shifted(labels: torch.Tensor, by: int) -> torch.Tensor:
    return torch.where(labels == NO_LABEL, labels, labels + by)


class EncodesParts(Encodes, Protocol):
    """A task that is made of the tasks of several data sets."""

    @property
    def parts(self) -> Sequence[Encodes]: ...

    def columns(self, part: int) -> slice:
        """The slice of a part's labels among those of all parts."""
        ...


class MixtureDataModule(TaskDataModule):
    """The parts' own splits by their own protocols, of which `train` and `selection` are joined.

    `slices` has the official splits of every part as `<part>/<split>`, and those of held-out data sets as
    `<name>/<split>`, with k answered examples in the prompt as `<name>/<split>@<k>`. Attributes: `modules`, the parts'
    own; `held_out`, those of the others.
    """

    modules: list[TaskDataModule]
    held_out: list[HeldOut]

    def setup(self, stage: str | None = None) -> None:
        """Tokenise what the run needs; a second call does nothing."""
        if self.slices:
            return
        task, data = cast(EncodesParts, self._task), self.config.dataset

        def module_of(kind: Any, part: DatasetConfig, number: int) -> Any:
            return kind(
                replace(self.config, dataset=part),
                task.parts[number],
                self.tokenizer,
                source=self._source.parts[part.name],
                tokenizer_fingerprint=self._tokenizer_fingerprint,
                cache=self._cache,
            )

        parts, others = data.parts or [], data.held_out or []
        self.modules = [module_of(TaskDataModule, part, number) for number, part in enumerate(parts)]
        self.held_out = [module_of(HeldOut, part, number) for number, part in enumerate(others, len(parts))]
        for module in self.modules:
            module.setup()
        for other in self.held_out:
            other.score_with(data.held_out_shots or [0], data.template_seed or 0)
        self.carved = sum(module.carved for module in self.modules)
        self.train = self._join([module.train for module in self.modules])
        for name in ("train", "selection"):
            slices = [module.slices[name] for module in self.modules]
            self.slices[name] = self._join(slices) if all(examples is not None for examples in slices) else None
        for number, module in enumerate(self.modules):
            for split in module.config.dataset.evaluation:
                examples = module.slices[split]
                name = f"{module.config.dataset.name}/{split}"
                self.slices[name] = None if examples is None else join([(number, examples)], self._first_labels())
        for number, other in enumerate(self.held_out, len(self.modules)):
            for split, examples in other.slices.items():
                name = f"{other.config.dataset.name}/{split}"
                self.slices[name] = None if examples is None else join([(number, examples)], self._first_labels())

    def _parts(self) -> Parts:
        return [(f"{module.config.dataset.name}/", module) for module in (*self.modules, *self.held_out)]

    def label_names(self, name: str) -> list[str] | None:
        """Those of all parts; where answers are written, of the one part whose split it is."""
        if not self._task.generates:
            return super().label_names(name)
        for module in (*self.modules, *self.held_out):
            if name.startswith(f"{module.config.dataset.name}/"):
                return module.label_names(name)
        return None

    @property
    def epoch_examples(self) -> int:
        return self._epochs().total

    @property
    def headline(self) -> list[str]:
        return [f"{m.config.dataset.name}/{m.config.dataset.evaluation[0]}" for m in self.modules]

    @property
    def validated(self) -> Encoded:
        return self._join([module.validated for module in self.modules])

    def _epochs(self) -> "MixedBatches":
        data, recipe = self.config.dataset, self.config.recipe
        return MixedBatches(
            self.train.lengths,
            sizes=[len(module.train) for module in self.modules],
            temperature=data.temperature or 1.0,
            cap=data.cap,
            batch_size=recipe.batch_size,
            seed=self.config.seed,
        )

    def _first_labels(self) -> list[int]:
        task = cast(EncodesParts, self._task)
        return [task.columns(number).start for number in range(len(task.parts))]

    def _join(self, sets: Sequence[Encoded | None]) -> Mixed:
        numbered = [(number, examples) for number, examples in enumerate(sets) if examples is not None]
        return join(numbered, self._first_labels())


class MixedBatches(LengthBucketBatches):
    """Batches of a mixture. An epoch has as many examples as all parts together; a part of n examples has a share of
    n^(1/T) over the sum of all parts' (T5, arXiv 1910.10683, section 3.5.2). T = 1: in proportion to their examples,
    each example once an epoch. Above that small parts come more often, their examples several times, and of large ones
    each epoch draws others. With a cap K a part counts for min(n, K) in all of this.

    Args:
        sizes: examples of each part, in the order in which they stand.
        temperature: T.
        cap: K; None: no limit.
    """

    def __init__(
        self,
        lengths: torch.Tensor,
        *,
        sizes: Sequence[int],
        temperature: float,
        batch_size: int,
        seed: int,
        cap: int | None = None,
    ) -> None:
        super().__init__(lengths, batch_size=batch_size, seed=seed)
        self.sizes = list(sizes)
        counted = [size if cap is None else min(size, cap) for size in self.sizes]
        self.counts = shares(counted, temperature)
        #: Examples of an epoch.
        self.total = sum(counted)

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        drawn, start = [], 0
        for size, count in zip(self.sizes, self.counts, strict=True):
            rounds = [torch.randperm(size, generator=generator) for _ in range(-(-count // size))]
            drawn.append(start + torch.cat(rounds)[:count])
            start += size
        together = torch.cat(drawn)
        return together[torch.randperm(len(together), generator=generator)]


def shares(sizes: Sequence[int], temperature: float) -> list[int]:
    """Divides an epoch among the parts: examples of each, by largest remainder, at least one; their sum is `sizes`'."""
    weights = [size ** (1 / temperature) for size in sizes]
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    remainders = sorted(range(len(sizes)), key=lambda i: exact[i] - counts[i], reverse=True)
    for i in remainders[: sum(sizes) - sum(counts)]:
        counts[i] += 1
    return [max(1, count) for count in counts]
