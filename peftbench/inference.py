"""How fast a trained model answers: as it was trained, merged where the method can, and its base, side by side."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.sampler import by_length
from peftbench.module import FineTuner
from peftbench.tasks.base import Batch

#: Single examples whose median latency is taken, and those before them that aren't counted.
LATENCY_EXAMPLES, LATENCY_WARM_UP = 33, 5
#: Examples of the throughput figure: enough for a rate, whatever the size of the split.
THROUGHPUT_EXAMPLES = 256


def measure(
    tuner: FineTuner, base: nn.Module, data: TaskDataModule, *, context: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    """`inference_samples_per_s` and `inference_latency_ms`, the same `_merged` (None where the method can't) and
    `_base` (the untrained model with the same head).

    The variants take turns batch by batch, so that a machine that slows down slows all of them alike.

    Args:
        base: a fresh model: with several methods, switching the adapter off doesn't give the base back.
        context: entered around all of it (precision).
    """
    examples = data.slices[data.headline[0]]
    assert examples is not None
    device = tuner.device
    merged = tuner.method.merge(tuner.model)
    variants = {"": tuner.model, "_merged": merged, "_base": base.to(device)}
    present = {name: variant.eval() for name, variant in variants.items() if variant is not None}
    for variant in present.values():
        lay_alike(variant)
    single = _latency_batches(examples)
    batches = _throughput_batches(examples, data.config.hardware.eval_batch_size)

    def forward(model: nn.Module, batch: Batch) -> None:
        model(**tuner.inputs(batch))

    with torch.inference_mode(), context():
        latency = _times(present, [examples.collate(i) for i in single], forward, device)
        rates = _times(present, [examples.collate(i) for i in batches], forward, device)
    count = sum(len(batch) for batch in batches[1:])
    figures: dict[str, float | None] = {}
    for name in variants:
        known = name in present and count > 0
        figures[f"inference_samples_per_s{name}"] = count / sum(rates[name][1:]) if known else None
        figures[f"inference_latency_ms{name}"] = (
            1e3 * statistics.median(latency[name][LATENCY_WARM_UP:]) if name in present else None
        )
    return figures


def lay_alike(model: nn.Module) -> None:
    """Copy a model's weights within memory, one after the other.

    As a file's reader leaves them they are up to a tenth faster than the copies that merging makes, and the difference
    between variants would be one of memory.
    """
    for tensor in model.parameters():
        if tensor.is_floating_point() and tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _latency_batches(examples: Encoded) -> list[list[int]]:
    """Single examples spread evenly over the lengths, repeated where the split has too few."""
    wanted = LATENCY_EXAMPLES + LATENCY_WARM_UP
    order = examples.lengths.argsort(stable=True)
    return [[int(order[(i * len(order)) // wanted])] for i in range(wanted)]


def _throughput_batches(examples: Encoded, batch_size: int) -> list[list[int]]:
    """Batches of like length over examples spread evenly over the split; the first comes twice, to warm up."""
    step = max(1, len(examples) // THROUGHPUT_EXAMPLES)
    chosen = torch.arange(len(examples))[::step][:THROUGHPUT_EXAMPLES]
    batches = [chosen[part].tolist() for part in by_length(examples.lengths[chosen], batch_size)]
    return [batches[0], *batches]


def _times(
    models: dict[str, nn.Module],
    batches: list[Batch],
    forward: Callable[[nn.Module, Batch], None],
    device: torch.device,
) -> dict[str, list[float]]:
    """Seconds of every batch on every model."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for batch in batches:
        batch = {k: v.to(device) for k, v in batch.items()}
        for name, model in models.items():
            start = time.perf_counter()
            forward(model, batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds
