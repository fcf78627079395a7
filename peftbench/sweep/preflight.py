"""What is looked at before the first run: whether each can work, what it would send, what a user should know."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, Failed
from peftbench.results.folders import Folder
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.sweep import terminal
from peftbench.system import escape, process, redact


def foresee(cells: Sequence[PreparedRun]) -> None:
    """Say what runs on hosted models would send, and what it may cost."""
    hosted = [cell for cell in cells if cell.config.hosted is not None]
    if not hosted:
        return
    log = Path(hosted[0].config.results_dir, Folder.LOGS, "verify.log")
    caches = [ResultStore(cell.config.results_dir).cache for cell in hosted]
    outcome = process.call("peftbench.run.hosted.run:foresee", hosted, caches, log=log)
    if outcome.result is None:
        raise Failed(f"what would be sent can't be said: {outcome.error} (log: {log})")
    for cell, lines in zip(hosted, outcome.result, strict=True):
        terminal.line(cell.config, lines[0])
        for line in lines[1:]:
            terminal.console.print(escape.line(redact.redact(line)), markup=False, highlight=False)


def say_labels(configs: Sequence[RunConfig], cells: Sequence[PreparedRun]) -> None:
    """Labels that nobody named, once a data set: their order decides what a metric such as F1 takes for positive."""
    by_dataset = {
        cell.config.dataset.name: cell.config.dataset.labels
        for config, cell in zip(configs, cells, strict=True)
        if config.dataset.labels is None and cell.config.dataset.labels is not None
    }
    for name, labels in by_dataset.items():
        line = escape.line(f"{name}: dataset.labels=[{', '.join(labels or [])}], as found")
        terminal.console.print(line, markup=False)


def warn(cells: Sequence[PreparedRun]) -> None:
    """Warn about settings that are valid but slow here."""
    on_cpu = any(c.config.hardware.accelerator == "cpu" and "bf16" in c.config.hardware.precision for c in cells)
    flags = Path("/proc/cpuinfo")
    if on_cpu and flags.exists() and not {"avx512_bf16", "amx_bf16", "bf16"} & set(flags.read_text().split()):
        terminal.console.print(
            "hardware.precision: this CPU has no bfloat16 instructions (AVX512-BF16, AMX): bf16 will be several times "
            "slower here than hardware=cpu"
        )


def verify(cells: Sequence[PreparedRun], *, leave_out: bool) -> dict[str, str]:
    """Check what needs torch and peft in a fresh process: adapters' arguments, their fit to the model, sinks.

    Returns:
        By key the reason of every cell that isn't applicable: none of them unless `leave_out`.

    Raises:
        ConfigError: the first cell that can't work.
        Failed: the check itself ended before its end.
    """
    different = {_alike(c): c for c in cells}
    log = Path(cells[0].config.results_dir, Folder.LOGS, "verify.log")
    pairs = [(cell.config, cell.checkpoint) for cell in different.values()]
    with terminal.waiting(f"importing torch, transformers and peft; checking {len(cells)} runs"):
        data = [(cell.source, ResultStore(cell.config.results_dir).cache) for cell in different.values()]
        outcome = process.call("peftbench.run.verify:verify", pairs, data, log=log)
    if outcome.result is None:
        raise Failed(f"the check before the runs failed: {outcome.error} (log: {log})")
    reasons: dict[str, str] = {}
    for alike, problem in zip(different, outcome.result, strict=True):
        if problem is not None:
            reason, not_applicable = problem
            if not (not_applicable and leave_out):
                raise ConfigError(reason)
            reasons[alike] = reason
            line = escape.line(redact.redact(f"not applicable: {reason}"))
            terminal.console.print(line, markup=False, highlight=False)
    return {cell.key: reasons[_alike(cell)] for cell in cells if _alike(cell) in reasons}


def _alike(cell: PreparedRun) -> str:
    """The part of a cell that is checked, as text: all of it but the seed."""
    return repr(replace(cell.config, seed=0))
