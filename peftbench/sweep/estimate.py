"""`peftbench estimate`: will it fit, how long does it take: memory by part without weights, data or training."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peftbench.config.arguments import config_dirs
from peftbench.config.compose import canonical
from peftbench.config.identity import micro_batch_size
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, Failed
from peftbench.sweep import budget, estimate_picture, estimate_table, forecast, terminal
from peftbench.sweep.cells import plan
from peftbench.sweep.forecast import Forecast
from peftbench.system import process

#: The command's own words, and what each may say.
_WORDS = {
    "memory": "a budget with its unit, such as 8GB",
    "fit": "true or false",
    "format": "table or json",
    "length": "tokens of an example",
    "picture": "a file that ends in .svg",
}


@dataclass(frozen=True)
class Options:
    """What is asked beside the runs.

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
class Estimate:
    """What is estimated of a run.

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
        """Why there is no estimate."""
        return self.cell.get("refused")

    @property
    def memory(self) -> float:
        """Bytes at the peak: of the process where that is known, else of the tensors."""
        return self.process.value if self.process else float(self.cell["peak_bytes"])


def main(arguments: list[str]) -> int:
    """Run the command; 1 if no run could be estimated."""
    with process.stoppable():
        overrides, folders = config_dirs(arguments)
        options, overrides = take(overrides)
        multirun = bool({"-m", "--multirun"} & set(overrides))
        words = [word for word in overrides if word not in ("-m", "--multirun")]
        for word in words:
            if word.startswith("-"):
                raise ConfigError(f"{word}: no such option; see peftbench --help")
            if "=" not in word:
                raise ConfigError(f"{word}: allowed are group=choice, key=value and {', '.join(_WORDS)}")
        cells = plan(canonical(words, folders), multirun=multirun, config_dirs=folders).cells
        made = make(cells, options)
    wrong = [one.cell for one in made if one.cell.get("wrong")]
    if wrong:
        raise ConfigError(wrong[0]["refused"])
    if options.picture is not None:
        estimate_picture.write(options.picture, made)
    print(as_json(made) if options.as_json else estimate_table.text(made, options.memory), end="")
    return 1 if all(one.refused for one in made) else 0


def take(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The command's own words, and the others. Raises ConfigError for a value that isn't allowed."""
    given = {key: value for word in arguments for key, _, value in [word.partition("=")] if key in _WORDS}
    rest = [word for word in arguments if word.partition("=")[0] not in _WORDS]

    def refused(key: str) -> ConfigError:
        return ConfigError(f"{key}={given[key]}: allowed is {_WORDS[key]}")

    for key, allowed in {"fit": ("true", "false"), "format": ("table", "json")}.items():
        if key in given and given[key] not in allowed:
            raise refused(key)
    if "length" in given and not (given["length"].isdigit() and 4 <= int(given["length"]) <= 10**6):
        raise refused("length")
    if "picture" in given and not given["picture"].endswith(".svg"):
        raise refused("picture")
    memory = budget.bytes_of("memory", given["memory"]) if "memory" in given else None
    fit = given.get("fit") == "true"
    if fit and memory is None:
        raise ConfigError("fit=true: needs a budget, memory=8GB")
    length = int(given["length"]) if "length" in given else None
    picture = Path(given["picture"]) if "picture" in given else None
    return Options(memory, fit or memory is not None, given.get("format") == "json", length, picture), rest


def make(configs: Sequence[RunConfig], options: Options) -> list[Estimate]:
    """The estimates of runs, made in a process of their own. Runs that differ in the seed alone are estimated once."""
    different = list({repr(replace(config, seed=0)): config for config in configs}.values())
    asked = [(config, _wanted(config, options)) for config in different]
    with TemporaryDirectory() as folder, terminal.waiting(f"estimating {len(asked)} runs"):
        outcome = process.call("peftbench.run.estimate.cells:estimate", asked, log=Path(folder, "estimate.log"))
    if outcome.result is None:
        raise Failed(f"the estimate's process failed: {outcome.error}")
    cells, rates = outcome.result["cells"], outcome.result["matrix_flops_per_s"]
    times = forecast.seconds(different, cells, rates)
    made = [_estimate(*one, options) for one in zip(different, cells, times, strict=True)]
    by_config = {repr(replace(one.config, seed=0)): one for one in made}
    return [replace(by_config[repr(replace(c, seed=0))], config=c) for c in configs]


def _wanted(config: RunConfig, options: Options) -> dict[str, Any]:
    own = micro_batch_size(config)
    small = max(1, min(own - 1, own // 4))
    return {
        "length": options.length,
        "sizes": (small,) if options.fit and own > 1 else (),
        "checkpointing": options.fit,
    }


def _estimate(config: RunConfig, cell: dict[str, Any], seconds: Forecast | None, options: Options) -> Estimate:
    if "refused" in cell:
        return Estimate(config, cell)
    made = Estimate(config, cell, forecast.process(cell["peak_bytes"], config), seconds)
    if options.memory is None:
        return made

    def fitting(peaks: dict[str, int] | None) -> int | None:
        if not peaks:
            return None
        whole = {int(n): _whole(peak, config) for n, peak in peaks.items()}
        return budget.largest(whole, options.memory or 0, micro_batch_size(config))

    return replace(made, largest=fitting(cell["other_sizes"]), checkpointed=fitting(cell["checkpointed"]))


def _whole(peak: float, config: RunConfig) -> float:
    """A peak as it is held against a budget: of the process, with its error bar, where that is known."""
    rest = forecast.process(peak, config)
    return peak if rest is None else rest.high or rest.value


def as_json(made: Sequence[Estimate]) -> str:
    """`cells`, one a run: its names, figures by part, forecasts; or `refused`."""
    cells = []
    for one in made:
        names = {part: getattr(one.config, part).name for part in ("model", "method", "dataset", "hardware")}
        figures = {key: value for key, value in one.cell.items() if key not in ("wrong", "checkpointed")}
        forecasts = {
            "process_peak_bytes": None if one.process is None else asdict(one.process),
            "time_s": None if one.seconds is None else asdict(one.seconds),
            "largest_micro_batch": one.largest,
            "largest_micro_batch_checkpointed": one.checkpointed,
        }
        cells.append({**names, "seed": one.config.seed, **figures, **({} if one.refused else forecasts)})
    return json.dumps({"cells": cells}, indent=2) + "\n"
