"""Inference speed of the trained model, the same merged (where the method can), and its base, side by side."""

import statistics
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch, moved
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.sampler import by_length
from peftbench.results import scored
from peftbench.run.shares import Shares
from peftbench.run.training import progress
from peftbench.run.training.tuner import FineTuner
from peftbench.system import limit, stop
from peftbench.system.process_group import Emit

#: Single examples whose median latency is taken, at the most; and how many warm up before them, uncounted.
LATENCY_EXAMPLES, LATENCY_WARM_UP = 25, 3

#: Latencies and examples that are enough to say nothing, where `measure_s` was too short for all of them.
ENOUGH_LATENCIES, ENOUGH_EXAMPLES = 9, 64
#: Bytes of weights from which on they lie in memory once for all variants. No cache holds as much: what a variant
#: leaves there doesn't make the next one faster.
SHARED_FROM = 2**30

#: By variant, the seconds of every batch that all variants answered.
Seconds = dict[str, list[float]]


def measure(
    tuner: FineTuner,
    base: nn.Module,
    data: TaskDataModule,
    *,
    precision: Callable[[], AbstractContextManager[Any]],
    emit: Emit = progress.ignored,
) -> tuple[dict[str, Any], list[str]]:
    """`inference_samples_per_s` and `inference_latency_ms`, the same with `_merged` (None where the method can't) and
    `_base` (the untrained model with the same head); and a footnote if `measure_s` was too short for all examples.

    The trained model is as it would be deployed: without what only training needs (`Method.deployed`).

    The variants take turns batch by batch, so that a machine that slows down slows all of them alike. Latency gets half
    of `measure_s`, throughput the rest.

    Args:
        base: a fresh model: several methods don't give the base back when the adapter is switched off.
        precision: entered around all of it (autocast).
        emit: gets how far it is.
    """
    with tuner.method.deployed(tuner.model):
        return _measured(tuner, base, data, precision, emit)


def _measured(
    tuner: FineTuner,
    base: nn.Module,
    data: TaskDataModule,
    precision: Callable[[], AbstractContextManager[Any]],
    emit: Emit,
) -> tuple[dict[str, Any], list[str]]:
    examples, config = data.slices[data.headline[0]], data.config
    assert examples is not None
    variants = _variants(tuner, base)
    single = _latency_batches(examples, config.measure_examples)
    batches = _throughput_batches(examples, config.hardware.eval_batch_size, config.measure_examples)

    shares = Shares(variants)
    counted = progress.Counted(emit, len(single) + len(batches), every_s=progress.SELDOM)

    def forward(model: nn.Module, batch: Batch) -> None:
        with shares.of(model):
            model(**tuner.inputs(batch))

    def answers(rows: list[list[int]], warm_up: int, until: float) -> Seconds:
        collated = counted.of([examples.collate(i) for i in rows])
        return _times(variants, collated, forward, tuner.device, warm_up=warm_up, until=until)

    end = time.monotonic() + config.measure_s
    with torch.inference_mode(), precision():
        latency = answers(single, LATENCY_WARM_UP, end - config.measure_s / 2)
        rates = answers(batches, 1, end)
    answered = len(rates[""])
    count = sum(len(batch) for batch in batches[1 : 1 + answered])
    figures: dict[str, Any] = {**dict.fromkeys(scored.SPEEDS), **shares.figures()}
    for name in variants:
        if count:
            figures[f"inference_samples_per_s{name}"] = count / sum(rates[name])
        if latency[name]:
            figures[f"inference_latency_ms{name}"] = 1e3 * statistics.median(latency[name])
    enough = len(latency[""]) >= min(len(single) - LATENCY_WARM_UP, ENOUGH_LATENCIES) and (
        count >= ENOUGH_EXAMPLES or answered == len(batches) - 1
    )
    return figures, [] if enough else [_cut_short(config)]


def _cut_short(config: RunConfig) -> str:
    """The footnote. The same words for every run: reports show each footnote once."""
    allowed = f"measure_s={config.measure_s:g}"
    return f"{config.method.name}: inference speed is of fewer examples than usual, or missing ({allowed} had gone by)"


def _variants(tuner: FineTuner, base: nn.Module) -> dict[str, nn.Module]:
    """The models that take turns, by the suffix of their figures' names; in evaluation mode."""
    trained = tuner.model.eval()
    shares = weight_bytes(trained) >= SHARED_FROM or tuner.device.type != "cpu"
    lay_alike(trained)
    variants = {"": trained, "_merged": base, "_base": base}

    def add(name: str, variant: nn.Module | None) -> None:
        if variant is None:
            del variants[name]
            return
        shared = share(variant, trained) if shares else set()
        variants[name] = variant.to(tuner.device).eval()
        lay_alike(variant, but=shared)

    # What the base has in common with the trained model is let go before merging copies that: never three models.
    add("_base", base)
    add("_merged", tuner.method.merge(trained))
    return variants


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights in memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())


def share(variant: nn.Module, trained: nn.Module) -> set[str]:
    """Let a model use another's weights where both have the same by the same name, so that they lie in memory once.

    Returns:
        The names of those weights in the variant.
    """
    own = {_plain(name): tensor for name, tensor in trained.named_parameters()}
    shared = set()
    for name, tensor in variant.named_parameters():
        other = own.get(_plain(name))
        if other is None or {type(tensor), type(other)} != {nn.Parameter} or tensor is other:
            continue
        alike = (tensor.shape, tensor.dtype) == (other.shape, other.dtype)
        if alike and torch.equal(tensor.detach().to(other.device), other):
            tensor.data = other.data
            shared.add(name)
    return shared


def _plain(name: str) -> str:
    """A weight's name in the model that was adapted."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", ".")


def lay_alike(model: nn.Module, but: Collection[str] = ()) -> None:
    """Copy a model's weights within memory, one after the other (CPU).

    Weights as they were read from a file are up to a tenth faster than the copies that merging makes: variants
    would differ by where they lie in memory.

    Args:
        but: the names of weights that stay where they are.
    """
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and tensor.device.type == "cpu" and name not in but:
            tensor.data = tensor.data.clone()


def _latency_batches(examples: Encoded, most: int) -> list[list[int]]:
    """Batches of one example, spread evenly over the lengths, repeated if the split has too few; the first warm up."""
    count = min(LATENCY_EXAMPLES, most)
    wanted = count + LATENCY_WARM_UP
    order = examples.lengths.argsort(stable=True)
    chosen = [[int(order[(i * len(order)) // wanted])] for i in range(wanted)]
    return [*chosen[:LATENCY_WARM_UP], *(chosen[LATENCY_WARM_UP + i] for i in spread(count))]


def _throughput_batches(examples: Encoded, batch_size: int, most: int) -> list[list[int]]:
    """Batches of examples of like length, spread evenly over the split. The longest comes first as well, to warm up."""
    step = max(1, len(examples) // most)
    chosen = torch.arange(len(examples))[::step][:most]
    batches = [chosen[part].tolist() for part in by_length(examples.lengths[chosen], batch_size)]
    return [batches[0], *(batches[i] for i in spread(len(batches)))]


def spread(count: int) -> list[int]:
    """The numbers from 0 to count - 1, ordered so that every beginning of the list covers them evenly: the middle, the
    quarters, the eighths (van der Corput's sequence)."""
    bits = count.bit_length() + 1  # Steps of less than half a number: none is missed but 0.
    fractions = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1, 1 << bits))
    return list(dict.fromkeys([*(fraction * count >> bits for fraction in fractions), *range(count)]))


def _times(
    models: dict[str, nn.Module],
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], None],
    device: torch.device,
    *,
    warm_up: int,
    until: float,
) -> Seconds:
    """Seconds of every batch on every model, without the first `warm_up`, which get a quarter of the time at the most.

    Args:
        until: when to stop, by `time.monotonic`; a batch that is interrupted doesn't count.
    """
    turns: list[list[float]] = []
    warm = until - 3 / 4 * (until - time.monotonic())
    with limit.until(until):
        for number, batch in enumerate(batches):
            stop.check()  # A library may have swallowed what the handler of SIGTERM raised.
            if time.monotonic() > (warm if 0 < number < warm_up else until):
                continue
            turn = _turn(models.values(), moved(batch, device), forward, device)
            if number >= warm_up:
                turns.append(turn)
    return {name: [turn[i] for turn in turns] for i, name in enumerate(models)}


def _turn(
    models: Iterable[nn.Module], batch: Batch, forward: Callable[[nn.Module, Batch], None], device: torch.device
) -> list[float]:
    """Seconds that each model took for one batch."""
    seconds = []
    for model in models:
        start = time.perf_counter()
        forward(model, batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds
