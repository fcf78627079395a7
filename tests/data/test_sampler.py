"""In which order examples are seen."""

import json

import numpy as np
import pytest
import torch

from peftbench.data.sampler import LengthBucketBatches, by_length

LENGTHS = torch.randint(3, 60, (1003,), generator=torch.Generator().manual_seed(0))


class TestSampler:
    def test_an_epoch_is_every_example_once(self) -> None:
        batches = list(LengthBucketBatches(LENGTHS, batch_size=16, seed=0))
        assert sorted(i for batch in batches for i in batch) == list(range(1003))
        assert sorted(map(len, batches)) == [11] + [16] * 62

    def test_epochs_and_seeds_differ_and_repeat(self) -> None:
        sampler = LengthBucketBatches(LENGTHS, batch_size=16, seed=0)
        first, second = list(sampler), list(sampler)
        assert first != second
        assert first == list(LengthBucketBatches(LENGTHS, batch_size=16, seed=0))
        assert first != list(LengthBucketBatches(LENGTHS, batch_size=16, seed=1))

    def test_batches_are_of_like_length_in_no_order_of_length(self) -> None:
        batches = list(LengthBucketBatches(LENGTHS, batch_size=16, seed=0))
        longest = torch.tensor([int(LENGTHS[batch].max()) for batch in batches])
        padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
        assert padded < 1.1 * int(LENGTHS.sum())
        assert not torch.equal(longest.sort().values, longest)
        assert not torch.equal(longest.sort(descending=True).values, longest)

    @pytest.mark.parametrize("count", [60, 110, 160, 1010])
    def test_no_batch_spans_many_lengths(self, count: int) -> None:
        """As those of a small bucket at the end would."""
        lengths = torch.randint(0, 1000, (16 * count,), generator=torch.Generator().manual_seed(1))
        batches = list(LengthBucketBatches(lengths, batch_size=16, seed=0))
        assert len(batches) == count
        assert max(int(lengths[batch].max() - lengths[batch].min()) for batch in batches) < 1000 / 20

    def test_it_goes_on_where_its_state_was_taken(self) -> None:
        sampler = LengthBucketBatches(LENGTHS, batch_size=16, seed=3)
        list(sampler)
        running = iter(sampler)
        head = [next(running) for _ in range(5)]
        other = LengthBucketBatches(LENGTHS, batch_size=16, seed=3)
        other.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
        assert list(other) == list(running)
        assert head

    def test_evaluation_is_longest_first_and_whole(self) -> None:
        batches = by_length(LENGTHS, 16)
        flat = [i for batch in batches for i in batch]
        assert sorted(flat) == list(range(1003))
        assert LENGTHS[flat].diff().max() <= 0


def test_numpy_draws_have_not_changed() -> None:
    """The carved rows are part of what a score means; a library that draws others must be noticed."""
    assert np.random.default_rng(0).permutation(10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
