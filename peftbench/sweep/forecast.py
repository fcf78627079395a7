"""From tensors to a process, and from operations to seconds: what measurements say of the rest, with error bars."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.sweep import estimates
from peftbench.system.machine import processor

_CALIBRATION = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True)
class Forecast:
    """A figure with what past ones of its kind missed: `low` and `high` hold nine of ten; None: nothing is known.

    Attributes:
        basis: what the figure rests on, in words.
    """

    value: float
    low: float | None
    high: float | None
    basis: str


def terms(peak: float, cell: Mapping[str, Any], quantised: bool) -> dict[str, float]:
    """The bytes that a process's peak is made of, by name, each to be multiplied by the factor measured for it:
    one, the weights as they were loaded, what is trained, and what a step holds for a while.

    Of weights that are mapped from their file the pages that nothing reads aren't there; freed activations stay with
    the allocator; a base that is quantised is loaded whole before.

    Args:
        peak: of the tensors.
        cell: the estimate of the run, at any micro batch.
        quantised: whether the base is.
    """
    parts = cell["parts"]
    trained = sum(parts[name] for name in ("weights_trained", "gradients", "optimizer"))
    loaded = 4 * cell["params"]["total"] if quantised else parts["weights_frozen"]
    return {
        "constant": 1.0,
        "weights as loaded": loaded,
        "trained, with gradients and optimiser": trained,
        "activations and temporary": peak - parts["weights_frozen"] - trained,
    }


def whole(of_each: Mapping[str, float], factors: Mapping[str, float], peak: float) -> float:
    """Bytes of a process by the factors of its `terms`, and no fewer than its tensors have at their peak: how many of
    the weights nothing reads depends on the model, and no measured process had less than 0.99 of its tensors."""
    return max(peak, sum(factors[name] * size for name, size in of_each.items()))


def process(peak: float, cell: Mapping[str, Any], config: RunConfig) -> Forecast | None:
    """Bytes of a run's process at its peak, above what it was born with, from the peak of its tensors, by factors that
    were fitted on runs (`benchmarks/estimates.py`). None for a GPU, which has no such measurement."""
    if config.hardware.accelerator != "cpu" or not _CALIBRATION.is_file():
        return None
    fit = json.loads(_CALIBRATION.read_text())
    value = whole(terms(peak, cell, config.method.quantization is not None), fit["factors"], peak)
    basis = f"{fit['cases']} measured runs"
    if value > fit["largest_bytes"]:
        basis += f" of up to {fit['largest_bytes'] / 1e9:.1f} GB: beyond these"
    return Forecast(value, value * fit["low"], value * fit["high"], basis)


def seconds(
    configs: Sequence[RunConfig], cells: Sequence[dict[str, Any]], rates: dict[str, float]
) -> list[Forecast | None]:
    """Seconds of each run: by records of the same; else of training alone, by what runs of records here reached; else
    by the machine's rate of matrix products, which no run reaches. None: nobody says how many examples there are.

    Args:
        cells: of each run what `run.estimate` says.
        rates: matrix products' operations a second, by precision.
    """
    reached = _reached({config.results_dir for config in configs})
    forecasts: list[Forecast | None] = []
    for config, cell, alike in zip(configs, cells, estimates.times(configs), strict=True):
        if alike:
            forecasts.append(_by(statistics.median(alike), alike, f"{len(alike)} records of the same"))
            continue
        rows = config.dataset.rows.get(config.dataset.train)
        if rows is None or "refused" in cell:
            forecasts.append(None)
            continue
        rows = min(rows, config.recipe.train_samples or rows)
        examples = estimates.examples(identity.description(config)["recipe"], rows)
        work, here = examples * cell["length"] * cell["flops_per_token"], reached.get(config.hardware.precision, [])
        if here and config.hardware.accelerator == "cpu":
            times = [work / rate for rate in here]
            forecasts.append(_by(statistics.median(times), times, f"what {len(here)} records here reached"))
        elif config.hardware.accelerator == "cpu":
            rate = rates[config.hardware.precision]
            forecasts.append(Forecast(work / rate, work / rate, None, "this machine's matrix products: at least"))
        else:
            forecasts.append(None)
    return forecasts


def _by(value: float, cases: Sequence[float], basis: str) -> Forecast:
    """A forecast from cases; of one case it is unknown how far it misses."""
    if len(cases) < 2:
        return Forecast(value, None, None, basis.replace("records", "record"))
    ordered = sorted(cases)
    cut = len(ordered) // 20
    return Forecast(value, ordered[cut], ordered[-1 - cut], basis)


def _reached(roots: set[str]) -> dict[str, list[float]]:
    """The operations a second that training reached in the records of a processor of this name, by precision."""
    reached: dict[str, list[float]] = {}
    for root in roots:
        for _, record in ResultStore(root).scan():
            if not isinstance(record, RunRecord) or record.environment.get("cpu") != processor():
                continue
            figures: dict[str, Any] = dict(record.efficiency or {})
            tokens, flops = figures.get("train_tokens_per_s"), figures.get("flops_per_token")
            if tokens and flops and record.config["hardware"].get("accelerator") == "cpu":
                padded = 1 - (figures.get("padded_fraction") or 0.0)
                reached.setdefault(record.config["hardware"]["precision"], []).append(tokens / padded * flops)
    return reached
