"""`peftbench estimate`: will it fit, how long does it take: memory by part without weights, data or training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peftbench.config.arguments import config_dirs
from peftbench.config.compose import canonical
from peftbench.errors import ConfigError
from peftbench.sweep import budget, estimate_picture, estimate_table, recorded, sizing
from peftbench.sweep.cells import plan
from peftbench.sweep.estimation import Options, RunEstimate, make
from peftbench.system import process

#: The command's own words, and what each may say.
_WORDS = {
    "memory": "a budget with its unit, such as 8GB",
    "fit": "true or false",
    "format": "table or json",
    "length": "tokens of an example",
    "picture": "a file that ends in .svg",
}
#: Instead of runs: those that a results folder has records of.
_RECORDS = "records"


def main(arguments: list[str]) -> int:
    """Run the command; 1 if no run could be estimated."""
    overrides, _ = config_dirs(arguments)
    if any(word.partition("=")[0] == _RECORDS for word in overrides):
        with process.stoppable():
            return recorded.main(overrides)
    estimates, options = asked(arguments)
    if options.picture is not None:
        estimate_picture.write(options.picture, estimates)
    print(as_json(estimates) if options.as_json else estimate_table.text(estimates, options.memory), end="")
    return 1 if all(one.refused for one in estimates) else 0


def asked(arguments: list[str]) -> tuple[list[RunEstimate], Options]:
    """The estimates that a command line asks for, and its options. Raises ConfigError for what is wrong."""
    with process.stoppable():
        overrides, folders = config_dirs(arguments)
        options, overrides = take(overrides)
        multirun = bool({"-m", "--multirun"} & set(overrides))
        words = [word for word in overrides if word not in ("-m", "--multirun")]
        for word in words:
            if word.startswith("-"):
                raise ConfigError(f"{word}: no such option; see peftbench --help")
            if "=" not in word:
                raise ConfigError(f"{word}: allowed are group=choice, key=value, {', '.join(_WORDS)} and records")
        composed = plan(canonical(words, folders), multirun=multirun, config_dirs=folders)
        composed, _ = sizing.match(composed, quiet=options.as_json)
        estimates = make(composed.cells, options)
    wrong = [one.cell for one in estimates if one.cell.get("wrong")]
    if wrong:
        raise ConfigError(wrong[0]["refused"])
    return list(estimates), options


def take(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The command's own words, and the others. Raises ConfigError for a value that isn't allowed."""
    values = {key: value for word in arguments for key, _, value in [word.partition("=")] if key in _WORDS}
    rest = [word for word in arguments if word.partition("=")[0] not in _WORDS]

    def refused(key: str) -> ConfigError:
        return ConfigError(f"{key}={values[key]}: allowed is {_WORDS[key]}")

    for key, allowed in {"fit": ("true", "false"), "format": ("table", "json")}.items():
        if key in values and values[key] not in allowed:
            raise refused(key)
    if "length" in values and not (values["length"].isdigit() and 4 <= int(values["length"]) <= 10**6):
        raise refused("length")
    if "picture" in values and not values["picture"].endswith(".svg"):
        raise refused("picture")
    memory = budget.bytes_of("memory", values["memory"]) if "memory" in values else None
    fit = values.get("fit") == "true"
    if fit and memory is None:
        raise ConfigError("fit=true: needs a budget, memory=8GB")
    length = int(values["length"]) if "length" in values else None
    picture = Path(values["picture"]) if "picture" in values else None
    return Options(memory, fit or memory is not None, values.get("format") == "json", length, picture), rest


def as_json(estimates: Sequence[RunEstimate]) -> str:
    """`cells`, one a run, as JSON."""
    return json.dumps({"cells": cells(estimates)}, indent=2) + "\n"


def cells(estimates: Sequence[RunEstimate]) -> list[dict[str, Any]]:
    """The estimates by run: its names, figures by part and forecasts; or `refused`."""
    shown = []
    for one in estimates:
        names = {part: getattr(one.config, part).name for part in ("model", "method", "dataset", "hardware")}
        figures = {key: value for key, value in one.cell.items() if key not in ("wrong", "checkpointed")}
        forecasts = {
            "process_peak_bytes": None if one.process is None else asdict(one.process),
            "time_s": None if one.seconds is None else asdict(one.seconds),
            "largest_micro_batch": one.largest,
            "largest_micro_batch_checkpointed": one.checkpointed,
        }
        shown.append({**names, "seed": one.config.seed, **figures, **({} if one.refused else forecasts)})
    return shown
