"""Estimates as a table for the terminal."""

from collections.abc import Sequence

from peftbench.sweep.budget import in_words
from peftbench.sweep.estimates import in_words as time_in_words
from peftbench.sweep.estimation import RunEstimate
from peftbench.sweep.forecast import Forecast

#: Columns of memory, in MB: heading and the parts that it adds up.
_COLUMNS = {
    "frozen": ("weights_frozen",),
    "trained": ("weights_trained",),
    "gradients": ("gradients",),
    "optimiser": ("optimizer",),
    "activations": ("activations",),
    "temporary": ("temporary",),
}


def text(estimates: Sequence[RunEstimate], memory: int | None) -> str:
    """The table, with the reasons of what couldn't be estimated and the bases of its figures below."""
    shown = [one for one in estimates if not one.refused]
    names = [part for part in ("model", "method", "dataset", "hardware") if part == "method" or _vary(estimates, part)]
    head = [*names, *_COLUMNS, "at the peak", "where", "process", "trained weights", "stored", "FLOPs/token", "time"]
    head += ["micro batch"] + (["fits", "checkpointed"] if memory is not None else [])
    rows = [head, *(_row(one, names, memory) for one in shown)]
    lines = _aligned(rows) if shown else []
    if shown:
        lines += ["", "MB at the moment of the peak, of tensors; process: with what a process needs beside them."]
        lines += sorted({f"{what}: {f.basis}" for one in shown for what, f in _bases(one) if f is not None})
    lines += sorted({f"can't be estimated: {one.refused}" for one in estimates if one.refused})
    return "\n".join([*lines, ""])


def _vary(estimates: Sequence[RunEstimate], part: str) -> bool:
    return len({getattr(one.config, part).name for one in estimates}) > 1 or part == "model"


def _bases(one: RunEstimate) -> list[tuple[str, Forecast | None]]:
    return [("process", one.process), ("time", one.seconds)]


def _row(one: RunEstimate, names: Sequence[str], memory: int | None) -> list[str]:
    cell = one.cell
    parts = [f"{sum(cell['parts'][part] for part in parts) / 1e6:,.1f}" for parts in _COLUMNS.values()]
    row = [getattr(one.config, name).name for name in names]
    row += [*parts, f"{cell['peak_bytes'] / 1e6:,.1f}", cell["where"], _range(one.process)]
    row += [f"{cell['params']['trainable']:,}", in_words(cell["stored_bytes"]), f"{cell['flops_per_token']:.3g}"]
    row += [_time(one.seconds), str(cell["micro_batch_size"])]
    if memory is not None:
        row += [str(size) if size else "no" for size in (one.largest, one.checkpointed)]
    return row


def _range(forecast: Forecast | None) -> str:
    if forecast is None:
        return "unknown"
    if forecast.low is None or forecast.high is None:
        return in_words(forecast.value)
    return f"{in_words(forecast.value)} ({in_words(forecast.low)} to {in_words(forecast.high)})"


def _time(forecast: Forecast | None) -> str:
    if forecast is None:
        return "unknown"
    if forecast.high is None:
        return f"{'at least ' if forecast.low is not None else ''}{time_in_words(forecast.value)}"
    return f"{time_in_words(forecast.value)} ({time_in_words(forecast.low)} to {time_in_words(forecast.high)})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
