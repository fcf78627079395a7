"""`peftbench estimate records=<folder>`: the memory of recorded runs by estimate, kept beside their records."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftbench.config import loading
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.report import estimated
from peftbench.results.report.estimated import Estimates
from peftbench.results.report.load import load
from peftbench.sweep import estimation
from peftbench.sweep.estimation import Options
from peftbench.system import escape, redact

#: Keys of records by a run's configuration, seed aside.
_Alike = dict[str, list[str]]


def main(arguments: Sequence[str]) -> int:
    """Estimate every run that has its memory measured, on examples of the length that it was measured on; write that,
    and print both. Returns 1 if none could be estimated."""
    name, *rest = [word.partition("=")[2] for word in arguments if word.startswith("records=")]
    if rest or len(arguments) > 1:
        raise ConfigError("estimate records=<results folder>: takes no other word")
    root = Path(name)
    if not name or not root.is_dir():
        raise ConfigError(f"records={name}: there is no such folder")
    runs = [record for record in load(root).completed if estimated.measured(record) is not None]
    if not runs:
        raise ConfigError(f"records={name}: no run there has its memory measured (measure=true)")
    estimates = _estimates(runs)
    file = estimated.keep(root, estimates)
    print(redact.redact(_text(runs, estimates)))
    print(f"\n{len(estimates.parts)} of {len(runs)} runs are estimated: {escape.line(file)}; report shows them")
    return 0 if estimates.parts else 1


def _estimates(runs: Sequence[RunRecord]) -> Estimates:
    """Each different run once, all of one length in one process."""
    made = Estimates(parts={}, refused={})
    by_length: dict[int, dict[str, RunConfig]] = defaultdict(dict)
    keys: dict[int, _Alike] = defaultdict(lambda: defaultdict(list))
    for record in runs:
        try:
            config = replace(loading.from_description(record.config), seed=0)
        except ConfigError as error:
            made.refused[record.key] = str(error)
            continue
        length = int((record.efficiency or {}).get("memory_length") or config.recipe.max_length)
        by_length[length][repr(config)] = config
        keys[length][repr(config)].append(record.key)
    for length, configs in by_length.items():
        for same, one in zip(configs, estimation.make(list(configs.values()), Options(length=length)), strict=True):
            for key in keys[length][same]:
                if one.refused is not None:
                    made.refused[key] = one.refused
                else:
                    made.parts[key] = dict(one.cell["parts"])
    return made


def _text(runs: Sequence[RunRecord], estimates: Estimates) -> str:
    """Measured and estimated bytes of each run in all, and why some have no estimate."""
    lines = []
    for record in runs:
        names = " ".join(str(record.config[group]["name"]) for group in ("method", "model", "dataset"))
        whole, parts = sum((estimated.measured(record) or {}).values()), estimates.parts.get(record.key)
        begin = f"{names} seed {record.config['seed']}: measured {whole / 1e6:,.1f} MB"
        if parts is None:
            lines.append(f"{begin}; can't be estimated: {estimates.refused.get(record.key, 'unknown')}")
        else:
            off = f" ({100 * (sum(parts.values()) / whole - 1):+.1f} %)" if whole else ""
            lines.append(f"{begin}, estimated {sum(parts.values()) / 1e6:,.1f} MB{off}")
    return "\n".join(map(escape.line, lines))
