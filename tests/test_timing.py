"""Measuring keeps to its seconds and its number of examples."""

import signal
import time

import pytest
import torch

from peftbench import inference, limit


def test_work_is_dropped_when_its_time_is_over() -> None:
    before, started = signal.getsignal(signal.SIGUSR1), time.monotonic()
    with limit.until(started + 0.3):
        try:
            time.sleep(60)
        except Exception:
            raise AssertionError("a library would have caught it") from None
    assert 0.3 <= time.monotonic() - started < 20
    with limit.until(time.monotonic() + 0.2):
        done = True
    time.sleep(0.4)
    assert done
    with pytest.raises(ValueError, match="its own"), limit.until(time.monotonic() + 60):
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGUSR1) is before


def test_only_batches_that_all_variants_answered_count() -> None:
    """The second model hangs on the third batch after two that warm up."""
    calls: list[int] = []

    def forward(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> None:
        calls.append(int(batch["index"]))
        if model is second and calls[-1] == 4:
            time.sleep(60)

    first, second = torch.nn.Identity(), torch.nn.Identity()
    batches = [{"index": torch.tensor(number)} for number in range(9)]
    times = inference._times(
        {"": first, "_base": second}, batches, forward, torch.device("cpu"), warm_up=2, until=time.monotonic() + 4
    )
    assert {name: len(seconds) for name, seconds in times.items()} == {"": 2, "_base": 2}
    assert calls == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 33, 100])
def test_every_beginning_of_the_order_lies_evenly(count: int) -> None:
    order = inference.spread(count)
    assert sorted(order) == list(range(count))
    for first in range(1, count + 1):
        mean = sum(order[:first]) / first / count
        assert abs(mean - (count - 1) / 2 / count) <= 1 / (first + 1)
    assert inference.spread(8)[:7] == [4, 2, 6, 1, 5, 3, 7]


def test_no_more_examples_are_measured_than_are_allowed() -> None:
    class Examples:
        lengths = torch.arange(100) % 17

        def __len__(self) -> int:
            return 100

    longest, *batches = inference._throughput_batches(Examples(), 8, 20)  # type: ignore[arg-type]
    assert sorted(map(len, batches)) == [4, 8, 8]
    assert longest in batches
    assert len({i for batch in batches for i in batch}) == 20
    assert len(inference._latency_batches(Examples(), 20)) == 20 + 5  # type: ignore[arg-type]
    whole = inference._latency_batches(Examples(), 256)  # type: ignore[arg-type]
    lengths = [int(Examples.lengths[i]) for (i,) in whole]
    assert len(whole) == 38
    assert max(lengths[:5]) <= min(lengths[5:]), "the shortest warm up"
