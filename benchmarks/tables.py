"""The tables of `compare.py`."""

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEAD = """
| contender | examples/s | speed, {first} : it | tokens padded to | peak memory, MB | memory, {first} : it |{counts}
|---|---:|---:|---:|---:|---:|{rule}
"""


def settings_table(measured: list[dict[str, Any]], settings: dict[str, tuple[list[str], int]]) -> str:
    """Markdown: what was measured on, and a table for each setting."""
    from peftbench.run import environment

    machine = environment.describe()
    lines = [
        f"{datetime.date.today()}, {machine['cpu']}, {os.cpu_count()} cores, torch {machine['packages']['torch']}, "
        f"transformers {machine['packages']['transformers']}; made by `python benchmarks/compare.py`.",
        "One epoch in a fresh process each, medians of alternating rounds; a ratio above 1 means that the first is "
        "faster, or uses more. Tokens padded to: what the model is given over the tokens that there are.",
        "",
    ]
    for setting in settings:
        lines += _setting(setting, settings[setting][0], [line for line in measured if line["setting"] == setting])
    return "\n".join(lines)


def _setting(setting: str, words: list[str], measured: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a setting. Contenders of one precision are compared with the first of them."""
    rounds = [line for line in measured if "round" in line]
    if not rounds:
        return
    counts = {line["contender"]: line["instructions"] for line in measured if "counts" in line}
    overrides = rounds[0]["overrides"]
    numbers = len({line["round"] for line in rounds})
    yield f"## {setting}"
    yield f"`{' '.join([*words, *overrides])}`, {rounds[0]['n']} examples, rounds: {numbers}"
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for line in rounds:
        by_name.setdefault(line["contender"], {})[line["round"]] = line
    more, rule = (" million instructions an example |", "---:|") if counts else ("", "")
    for bf16 in (False, True):
        names = [name for name in by_name if name.endswith("_bf16") is bf16]
        if names:
            yield _HEAD.format(first=names[0], counts=more, rule=rule).rstrip("\n")
        for name in names:
            cells = _cells(by_name[names[0]], by_name[name])
            count = counts.get(name)
            cells += [f"{count / 1e6:,.0f}" if count is not None else "-"] if counts else []
            yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _cells(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> list[str]:
    """Rate, ratio, padding, memory and its ratio, each a median over rounds."""
    both = [number for number in ours if number in theirs]

    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    rate = median(line["examples"] / line["s"] for line in theirs.values())
    padding = median(line["padded"] / line["tokens"] for line in theirs.values())
    faster = median(theirs[i]["s"] / ours[i]["s"] for i in both) if both else None
    larger = median(ours[i]["peak"] / theirs[i]["peak"] for i in both) if both else None
    peak = median(line["peak"] for line in theirs.values())
    ratios = ["-" if ratio is None else f"{ratio:.2f}" for ratio in (faster, larger)]
    return [f"{rate:.1f}", ratios[0], f"{padding:.3f}", f"{peak / 1e6:,.0f}", ratios[1]]


def commands_table(folder: Path) -> str:
    """Markdown: whole-process seconds of what must start at once, `report` on 1,000 records."""
    records = folder / "many"
    _records(records, 1000)
    planned = ["model=minilm", "dataset=demo", "dry_run=true", f"results_dir={folder}/none"]
    lines = {"--help": ["--help"], "list methods": ["list", "methods"], "report": ["report", f"results_dir={records}"],
             "dry_run=true": planned}  # fmt: skip
    rows = [
        f"| `peftbench {name}` | {statistics.median(_seconds(line) for _ in range(5)):.2f} |"
        for name, line in lines.items()
    ]
    fresh = f"| a fresh process per run, after the first | {_fresh_process():.2f} |"
    return "\n".join(["", "| whole process | s |", "|---|---:|", *rows, fresh, "", "`report` reads 1,000 records.", ""])


def _records(folder: Path, count: int) -> None:
    from peftbench.config import identity
    from peftbench.results.records import RunRecord
    from peftbench.results.store import ResultStore
    from peftbench.sweep.cells import plan as plan_cells

    store, sweep = ResultStore(folder), ["method=lora,full,bitfit,prefix", "dataset=sst2,rte,mrpc,cola,qnli"]
    for i, config in enumerate(plan_cells([*sweep, f"seed=range({count // 20})"], multirun=True).cells):
        record = RunRecord(key=f"{i:020d}", status="completed", score=i / count, config=identity.description(config),
                           params={"trainable": i, "total": 1000}, efficiency={"train_samples_per_s": 1.0})  # fmt: skip
        store.put(config, record)


def _seconds(line: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "peftbench", *line], capture_output=True, check=True)
    return time.perf_counter() - start


def _fresh_process() -> float:
    """Seconds that a fresh process costs after the first: a child that does nothing."""
    from peftbench.system import process

    with tempfile.TemporaryDirectory() as folder:
        took = []
        for _ in range(6):
            start = time.perf_counter()
            process.call("peftbench.run.verify:verify", [], [], log=Path(folder, "log"))
            took.append(time.perf_counter() - start)
    return statistics.median(took[1:])
