"""Batches of examples of like length, in an order that a seed decides."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

#: Batches that are sorted together, about: enough that little is padded, few enough that the order stays random.
_BUCKET = 50


class LengthBucketBatches(Sampler[list[int]]):
    """Global batches of like length: every epoch holds every example once, as a plain shuffled sampler's does.

    The examples are shuffled, cut into buckets of like size, about 50 batches each, each bucket sorted by length and
    cut into batches, and the batches of all buckets shuffled. Each iteration is the next epoch; `state_dict` says where
    it stands.

    Args:
        lengths: (n,) tokens of every example.
        batch_size: examples a global batch; the last one of an epoch may hold fewer.
        seed: with the epoch, decides the order.
    """

    def __init__(self, lengths: torch.Tensor, *, batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches(self.epoch)
        for index in range(self.position, len(batches)):
            # Moved on before the batch is yielded: the generator isn't resumed after the last one.
            last = index + 1 == len(batches)
            self.epoch, self.position = (self.epoch + 1, 0) if last else (self.epoch, index + 1)
            yield batches[index]

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = self._order(generator)
        batches: list[list[int]] = []
        for bucket in order.split(self._bucket() * self.batch_size):
            by_length = bucket[self.lengths[bucket].argsort(descending=True, stable=True)]
            batches += [part.tolist() for part in by_length.split(self.batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]

    def _bucket(self) -> int:
        """Batches a bucket: a small one at the end would be padded more than all others."""
        return -(-len(self) // max(1, round(len(self) / _BUCKET)))

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        """An epoch's examples, shuffled."""
        return torch.randperm(len(self.lengths), generator=generator)

    def state_dict(self) -> dict[str, int]:
        """The epoch and the batches of it already given."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        self.epoch, self.position = state["epoch"], state["position"]


class Steps(Sampler[list[int]]):
    """The batches of a whole run in one pass: epoch after epoch, up to step `total`, from step `start` on.

    One pass, so that a run that goes on from the middle of an epoch is given what an uninterrupted one would be.
    """

    def __init__(self, epochs: LengthBucketBatches, *, total: int, start: int = 0) -> None:
        self.epochs, self.total, self.start = epochs, total, start

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        epoch, position = divmod(self.start, len(self.epochs))
        self.epochs.load_state_dict({"epoch": epoch, "position": position})
        step = self.start
        while step < self.total:
            for batch in self.epochs:
                step += 1
                yield batch
                if step == self.total:
                    return


def by_length(lengths: torch.Tensor, batch_size: int) -> list[list[int]]:
    """Batches for evaluation: longest first, so that hardly anything is padded and memory peaks at once."""
    return [part.tolist() for part in lengths.argsort(descending=True, stable=True).split(batch_size)]
