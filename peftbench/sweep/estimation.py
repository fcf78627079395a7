"""Estimates of runs: asked of a process of their own, and put beside what measurements say of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peftbench.config.identity import micro_batch_size
from peftbench.config.types import RunConfig
from peftbench.errors import Failed
from peftbench.sweep import budget, forecast, terminal
from peftbench.sweep.forecast import Forecast
from peftbench.system import process


@dataclass(frozen=True)
class Options:
    """The options of an estimate beside its runs.

    Attributes:
        memory: a budget in bytes; None: none.
        fit: whether the largest micro batch that fits is looked for.
        length: tokens of an example; None: `recipe.max_length`.
        picture: an SVG file to write.
    """

    memory: int | None = None
    fit: bool = False
    as_json: bool = False
    length: int | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a run.

    Attributes:
        cell: what `run.estimate.cells` says of it (or `refused`).
        process: its process's memory at the peak; `seconds`: its time; None: unknown.
        largest: the largest micro batch within the budget, `checkpointed`: with gradient checkpointing; None: not even
            one example fits, or it wasn't asked.
    """

    config: RunConfig
    cell: dict[str, Any]
    process: Forecast | None = None
    seconds: Forecast | None = None
    largest: int | None = None
    checkpointed: int | None = None

    @property
    def refused(self) -> str | None:
        """The reason why there is no estimate."""
        return self.cell.get("refused")

    @property
    def memory(self) -> float:
        """Bytes at the peak: of the process where that is known, else of the tensors."""
        return self.process.value if self.process else float(self.cell["peak_bytes"])


def make(configs: Sequence[RunConfig], options: Options) -> list[RunEstimate]:
    """The estimates of runs, made in a process of their own. Runs that differ in the seed alone are estimated once."""
    different = list({repr(replace(config, seed=0)): config for config in configs}.values())
    asked = [(config, _wanted(config, options)) for config in different]
    with TemporaryDirectory() as folder, terminal.waiting(f"estimating {len(asked)} runs"):
        outcome = process.call("peftbench.run.estimate.cells:estimate", asked, log=Path(folder, "estimate.log"))
    if outcome.result is None:
        raise Failed(f"the estimate's process failed: {outcome.error}")
    cells, rates = outcome.result["cells"], outcome.result["matrix_flops_per_s"]
    times = forecast.seconds(different, cells, rates)
    estimates = [_estimate(*one, options) for one in zip(different, cells, times, strict=True)]
    by_config = {repr(replace(one.config, seed=0)): one for one in estimates}
    return [replace(by_config[repr(replace(c, seed=0))], config=c) for c in configs]


def _wanted(config: RunConfig, options: Options) -> dict[str, Any]:
    own = micro_batch_size(config)
    small = max(1, min(own - 1, own // 4))
    return {
        "length": options.length,
        "sizes": (small,) if options.fit and own > 1 else (),
        "checkpointing": options.fit,
    }


def _estimate(config: RunConfig, cell: dict[str, Any], seconds: Forecast | None, options: Options) -> RunEstimate:
    if "refused" in cell:
        return RunEstimate(config, cell)
    estimate = RunEstimate(config, cell, forecast.process(cell["peak_bytes"], cell, config), seconds)
    if options.memory is None:
        return estimate

    def fitting(peaks: dict[str, int] | None) -> int | None:
        if not peaks:
            return None
        by_size = {int(n): _whole(peak, cell, config) for n, peak in peaks.items()}
        return budget.largest(by_size, options.memory or 0, micro_batch_size(config))

    return replace(estimate, largest=fitting(cell["other_sizes"]), checkpointed=fitting(cell["checkpointed"]))


def _whole(peak: float, cell: dict[str, Any], config: RunConfig) -> float:
    """A peak as it is held against a budget: of the process, with its error bar, where that is known."""
    rest = forecast.process(peak, cell, config)
    return peak if rest is None else rest.high or rest.value
