"""Measuring keeps to its seconds and its number of examples."""

import signal
import time
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from peftbench.run import speed
from peftbench.system import limit


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
    times = speed._times(
        {"": first, "_base": second}, batches, forward, torch.device("cpu"), warm_up=2, until=time.monotonic() + 4
    )
    assert {name: len(seconds) for name, seconds in times.items()} == {"": 2, "_base": 2}
    assert calls == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 25, 100])
def test_every_beginning_of_the_order_lies_evenly(count: int) -> None:
    order = speed.spread(count)
    assert sorted(order) == list(range(count))
    for first in range(1, count + 1):
        mean = sum(order[:first]) / first / count
        assert abs(mean - (count - 1) / 2 / count) <= 1 / (first + 1)
    assert speed.spread(8)[:7] == [4, 2, 6, 1, 5, 3, 7]


def test_no_more_examples_are_measured_than_are_allowed() -> None:
    class Examples:
        lengths = torch.arange(100) % 17

        def __len__(self) -> int:
            return 100

    longest, *batches = speed._throughput_batches(Examples(), 8, 20)  # type: ignore[arg-type]
    assert sorted(map(len, batches)) == [4, 8, 8]
    assert longest in batches
    assert len({i for batch in batches for i in batch}) == 20
    assert len(speed._latency_batches(Examples(), 20)) == 20 + speed.LATENCY_WARM_UP  # type: ignore[arg-type]
    whole = speed._latency_batches(Examples(), 256)  # type: ignore[arg-type]
    lengths = [int(Examples.lengths[i]) for (i,) in whole]
    warm_up = speed.LATENCY_WARM_UP
    assert len(whole) == speed.LATENCY_EXAMPLES + warm_up
    assert max(lengths[:warm_up]) <= min(lengths[warm_up:]), "the shortest warm up"


def test_frozen_weights_lie_in_memory_once_and_change_no_answer() -> None:
    def built(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4), torch.nn.Linear(4, 2))

    trained = get_peft_model(built(0), LoraConfig(target_modules=["1"], init_lora_weights=False))
    base, other = built(0), built(1)
    inputs = torch.ones(3, 8)
    expected = base(inputs)
    speed.lay_alike(trained)
    assert speed.share(base, trained) == {f"{layer}.{kind}" for layer in range(3) for kind in ("weight", "bias")}
    theirs = {tensor.data_ptr() for tensor in trained.parameters()}
    assert {tensor.data_ptr() for tensor in base.parameters()} < theirs
    speed.lay_alike(base, but=speed.share(base, trained))
    assert {tensor.data_ptr() for tensor in base.parameters()} < theirs
    assert torch.equal(base(inputs), expected)
    assert speed.share(other, trained) == set(), "other weights by the same names"
    merged = get_peft_model(built(0), LoraConfig(target_modules=["1"], init_lora_weights=False)).merge_and_unload()
    answers = merged(inputs)
    assert speed.share(merged, trained) == {"0.weight", "0.bias", "1.bias", "2.weight", "2.bias"}
    assert torch.equal(merged(inputs), answers)


def test_merging_copies_the_model_when_the_base_has_let_go_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def built() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))

    monkeypatch.setattr(speed, "SHARED_FROM", 0)
    base, trained = built(), get_peft_model(built(), LoraConfig(target_modules=["1"], init_lora_weights=False))
    alive: list[set[int]] = []

    def merge(model: torch.nn.Module) -> torch.nn.Module:
        alive.append({t.data_ptr() for m in (base, model) for t in m.parameters()})
        return get_peft_model(built(), LoraConfig(target_modules=["1"])).merge_and_unload()

    tuner = SimpleNamespace(model=trained, device=torch.device("cpu"), method=SimpleNamespace(merge=merge))
    assert list(speed._variants(tuner, base)) == ["", "_merged", "_base"]  # type: ignore[arg-type]
    assert alive == [{t.data_ptr() for t in trained.parameters()}]


def test_small_models_on_a_cpu_have_weights_of_their_own() -> None:
    model = torch.nn.Linear(8, 8)
    assert speed.weight_bytes(model) == 4 * 72 < speed.SHARED_FROM
