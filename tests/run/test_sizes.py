"""The sizes at which methods have a given number of weights: the search, and the counts against those of runs."""

from collections.abc import Callable

import pytest

from peftbench.config import sizes as config_sizes
from peftbench.config.types import RunConfig
from peftbench.results.records import RunRecord
from peftbench.run import sizes
from tests.helpers.composed import composed, written

FAMILIES = ("selective", "reparametrised", "additive")
#: In these the whole number of weights is shared out differently by what the data say.
CHOSEN_BY_DATA = 0.01


def search(count: Callable[[float], int | None], usual: float, wanted: float) -> tuple[float, int]:
    """The size that is found, and how many were looked at."""
    counts: dict[float, int | None] = {usual: count(usual)}
    return sizes.nearest(count, usual, wanted, counts=counts), len(counts)


@pytest.mark.parametrize("wanted", [1, 99, 100, 149, 151, 5_000, 77_777])
def test_in_proportion_the_nearest_is_found_in_a_few_looks(wanted: int) -> None:
    size, looks = search(lambda r: round(100 * r), 8, wanted)
    assert size == max(1, round(wanted / 100))
    assert looks <= 6


@pytest.mark.parametrize("wanted", [12, 700, 4_095, 70_000])
def test_whatever_the_count_grows_by_the_nearest_is_found(wanted: int) -> None:
    counts: dict[str, Callable[[float], int]] = {
        "squares": lambda r: round(r * r),
        "a constant and little more": lambda r: 600 + round(3 * r),
        "falling": lambda r: 100_000 // round(r),
    }
    for name, count in counts.items():
        best = min(range(1, 40_000), key=lambda r: abs(count(r) - wanted))
        size, looks = search(count, 16, wanted)
        assert abs(count(size) - wanted) <= max(abs(count(best) - wanted), 0.002 * wanted), name
        assert looks <= 30


def test_sizes_that_are_refused_are_stepped_over() -> None:
    """Divisors of a width, as of block-circulant adapters, whose weights fall with the block."""
    width = 384
    falling = lambda b: None if width % b else width * width // round(b)  # noqa: E731
    assert search(falling, 64, 2_304 * 2)[0] == 32
    assert search(falling, 64, 1_300)[0] == 128
    assert search(falling, 64, 140_000)[0] == 1
    assert search(lambda r: round(384 * r) if r <= 384 else None, 20, 384 * 592)[0] == 384
    assert search(lambda r: None if r % 4 else round(1000 + 10 * r), 24, 1_045)[0] == 4


def test_shares_stay_between_none_and_all() -> None:
    sparsity = lambda s: round(1000 * (1 - s)) if 0 < s < 1 else None  # noqa: E731
    assert search(sparsity, 0.9, 6)[0] == pytest.approx(0.994)
    assert search(sparsity, 0.9, 700)[0] == pytest.approx(0.3)


def test_of_equal_counts_the_most_usual_size_is_taken() -> None:
    layers = lambda keep: 10 + max(1, round(6 * keep)) if 0 < keep <= 1 else None  # noqa: E731
    assert search(layers, 0.5, 13)[0] == 0.5


def config(*words: str) -> RunConfig:
    return composed(["model=tiny_bert", "dataset=sst2", *words])


def test_what_goes_with_the_size_keeps_its_proportion() -> None:
    lora = config("method=lora")
    assert config_sizes.values(lora, 5) == {"adapter.r": 5, "adapter.lora_alpha": 10}
    sized = config_sizes.chosen(lora, {"adapter.r": 5, "adapter.lora_alpha": 10})
    assert (sized.method.adapter or {})["r"] == 5
    assert (lora.method.adapter or {})["r"] == 8
    assert config_sizes.values(config("method=adalora"), 6) == {
        "adapter.init_r": 6,
        "adapter.target_r": 4,
        "adapter.lora_alpha": 8,
    }


@pytest.mark.parametrize("name", sorted(name for name, file in written("method").items() if file.get("size")))
def test_every_size_is_a_number_of_the_methods_file(name: str) -> None:
    """And another one composes with it."""
    model = "tiny_llama" if "encoder" not in written("method")[name]["supports"] else "tiny_bert"
    one = composed([f"model={model}", "dataset=sst2", f"method={name}"])
    assert one.method.size
    for key in one.method.size:
        value = config_sizes.at(one, key)
        assert isinstance(value, int | float)
        assert not isinstance(value, bool)


def test_most_methods_of_the_three_families_have_a_size() -> None:
    """Those without one have nothing to set, and are named here so that a new method is thought of."""
    without = {
        name for name, file in written("method").items() if file.get("family") in FAMILIES and not file.get("size")
    }
    assert without == {"adapter_fusion", "beft", "bitfit", "ia3", "ln_tuning", "road", "shadow", "xlora"}


@pytest.mark.parametrize(
    ("method", "budget"),
    [
        ("lora", "3%"),
        ("lora_fa", "3%"),
        ("houlsby", "5%"),
        ("prefix", "10%"),
        ("p_tuning_v2", "1%"),
        ("vera", "3%"),
        ("diff_pruning", "1%"),
        ("fish_mask", "1%"),
        ("shira", "3%"),
    ],
)
def test_counted_weights_are_those_of_the_record(train: Callable[..., RunRecord], method: str, budget: str) -> None:
    one = config(f"method={method}", "match=parameters", f"budget={budget}")
    found = sizes.of(one, [budget])
    chosen = found["chosen"][budget]
    assert chosen["weights"] == pytest.approx(chosen["wanted"], rel=0.25)
    words = [f"method.{key}={value}" for key, value in chosen["values"].items()]
    params = train(f"method={method}", *words, "recipe.max_steps=4").params or {}
    assert params["adapter"] == pytest.approx(chosen["weights"], rel=CHOSEN_BY_DATA)
    assert config_sizes.values(one, config_sizes.at(one, (one.method.size or [""])[0])) != chosen["values"]


@pytest.mark.parametrize("method", ["drop_layers", "progressive_shrinking"])
def test_smaller_models_are_counted_as_they_are_left(train: Callable[..., RunRecord], method: str) -> None:
    words = [f"method={method}", "model.config.num_hidden_layers=4"]
    one = config(*words, "match=size", "budget=70%")
    chosen = sizes.of(one, ["70%"])["chosen"]["70%"]
    keep = chosen["values"]["args.keep"]
    params = train(*words, f"method.args.keep={keep}", "recipe.max_steps=6").params or {}
    assert params["total"] == chosen["weights"] < sizes.base_weights(one)


def test_a_method_that_cannot_be_counted_says_why() -> None:
    assert "supports decoder" in sizes.of(config("method=llama_adapter", "match=parameters"), ["1%"])["refused"]
