"""Estimates of memory held against runs; fits what a process needs beside its tensors.

    python benchmarks/estimates.py FOLDER [--minutes 60] [--jobs 1] [--model-root DIR] [--claim] [--proof] [--write]

1. The tracker on models without weights against the same on real steps, for every method (the tests of it).
2. Runs of nine methods on MiniLM and, with --model-root, SmolLM2, at three batch sizes, in 32 bits and bfloat16, every
   text as long as 128 tokens. On every other one a constant and a factor are fitted; the rest says how far they miss.

Runs that FOLDER has are not made again; after so many minutes none is started. --write puts the table into
results/estimates.md and the fit into peftbench/sweep/calibration.json.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from estimates_cost import ROOT, claim, peftbench, timed

from peftbench.sweep import forecast

METHODS = ("full", "lora", "prefix", "prompt", "houlsby", "ia3", "bitfit", "dora", "qlora")
SIZES = {"minilm": (8, 32, 128), "smollm2_135m": (1, 4, 8)}
HARDWARE = ("cpu", "cpu_bf16")
Key = tuple[str, str, int, str]  # Model, method, batch size, hardware.


@dataclass(frozen=True)
class Case:
    """A run: the estimated peak of its tensors, what a process's peak is made of (`forecast.terms`), and the measured
    peaks of its process and, where there was time for it, of its tensors, in bytes."""

    name: str
    tensors: float
    terms: dict[str, float]
    measured: float
    by_tracker: float | None


def words(folder: Path, model: str, size: int) -> list[str]:
    """What a run and its estimate have in common: four steps of a batch size, every text longer than is read."""
    return [
        f"model={model}",
        f"recipe.batch_size={size}",
        "recipe.max_length=128",
        "recipe.max_steps=4",
        "dataset=csv",
        f"dataset.file={folder / 'long.csv'}",
        "dataset.text=text",
        "dataset.label=label",
        f"results_dir={folder}",
        "measure_examples=8",
        "measure_s=60",
        "save_adapters=false",
        "recipe.eval_samples=16",
        "recipe.selection=last",
        f"method={','.join(METHODS)}",
        f"hardware={','.join(HARDWARE)}",
        "-m",
    ]


def write_texts(file: Path, rows: int = 800, length: int = 150) -> None:
    """Random words, more of them than a model reads, and a label: peaks don't depend on what is said."""
    draw, sounds = np.random.default_rng(0), ("the", "light", "house", "of", "reading", "never", "green", "was")
    drawn = (" ".join(draw.choice(sounds, size=length)) for _ in range(rows))
    lines = [f"{text},{('no', 'yes')[i % 2]}" for i, text in enumerate(drawn)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["text,label", *lines]) + "\n")


def recorded(folder: Path) -> dict[Key, dict[str, Any]]:
    """The completed records, by model, method, batch size and hardware."""
    records = {}
    for file in sorted((folder / "records").rglob("*.json")):
        record = json.loads(file.read_text())
        if record["status"] == "completed":
            config = record["config"]
            records[_key(config)] = record
    return records


def estimated(folder: Path, model: str, size: int) -> dict[Key, dict[str, Any]]:
    """The estimates of a model's runs of one batch size; kept in the folder."""
    file = folder / "estimates" / f"{model}-{size}.json"
    if not file.is_file():
        out = peftbench(["estimate", *words(folder, model, size), "length=128", "format=json"], 1200)
        if not out:
            return {}
        file.parent.mkdir(exist_ok=True)
        file.write_text(out)
    cells = json.loads(file.read_text())["cells"]
    return {(model, cell["method"], size, cell["hardware"]): cell for cell in cells if "refused" not in cell}


def _key(config: dict[str, Any]) -> Key:
    return (
        config["model"]["name"],
        config["method"]["name"],
        config["recipe"]["batch_size"],
        config["hardware"]["name"],
    )


def beside(record: dict[str, Any], cell: dict[str, Any]) -> Case | None:
    """A record beside the estimate of the same run; None: its process's peak wasn't measured."""
    figures = record["efficiency"]
    parts, peak = figures.get("memory_parts_bytes"), figures.get("peak_memory_bytes")
    if peak is None:
        return None
    name = " ".join(map(str, _key(record["config"])))
    of_each = forecast.terms(cell["peak_bytes"], cell, record["config"]["method"].get("quantization") is not None)
    return Case(name, float(cell["peak_bytes"]), of_each, float(peak), float(sum(parts.values())) if parts else None)


def factors(cases: Sequence[Case]) -> np.ndarray:
    """(4,) The factor of each term, by least squares of the relative misses."""
    of_each, measured = np.array([list(c.terms.values()) for c in cases]), np.array([c.measured for c in cases])
    # Columns of one size: a constant beside bytes would be below the cut-off of singular values.
    scale = of_each.max(axis=0)
    solved, *_ = np.linalg.lstsq(of_each / scale / measured[:, None], np.ones(len(cases)), rcond=None)
    return np.asarray(solved / scale)


def fit(cases: Sequence[Case]) -> dict[str, Any]:
    """`factors` by term, and `low` and `high`, the ratios measured / estimate that nine of ten of these cases lie
    between, each estimated by the others."""
    left_out = [factors([c for c in cases if c is not one]) for one in cases]
    ratios = np.sort([c.measured / predicted(c, of_each) for c, of_each in zip(cases, left_out, strict=True)])
    cut = int(0.05 * (len(ratios) + 1))  # As many lie beyond as of a further case are expected to, at most.
    low, high = ratios[max(cut - 1, 0)], ratios[-max(cut, 1)]
    return {
        "factors": dict(zip(cases[0].terms, map(float, factors(cases)), strict=True)),
        "low": float(low),
        "high": float(high),
        "largest_bytes": max(c.measured for c in cases),
    }


def predicted(case: Case, of_each: Sequence[float] | np.ndarray) -> float:
    """Bytes of a process by the factor of each term."""
    return forecast.whole(case.terms, dict(zip(case.terms, of_each, strict=True)), case.tensors)


def table(fitted: Sequence[Case], others: Sequence[Case], made: dict[str, Any]) -> str:
    """The page: how far the estimates of the other half miss, and every case."""
    of_each = list(made["factors"].values())
    expected = {c.name: predicted(c, of_each) for c in (*fitted, *others)}
    misses = np.array([abs(expected[c.name] / c.measured - 1) for c in others])
    inside = np.mean([made["low"] <= c.measured / expected[c.name] <= made["high"] for c in others])
    constant, *rest = made["factors"].items()
    lines = [
        f"Process = {constant[1] / 1e6:,.0f} MB"
        + "".join(f" + {factor:.2f} x {name}" for name, factor in rest)
        + f", and no less than its tensors; fitted on {len(fitted)} runs. "
        f"On the other {len(others)}: median miss {np.median(misses):.1%}, "
        f"{np.mean(misses < 0.25):.0%} miss less than 25 %, the error bar holds {inside:.0%}.",
        "",
        "| run | tensors, estimated, MB | measured | process, estimated | measured | miss | fitted on |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in [*fitted, *others]:
        miss = f"{expected[c.name] / c.measured - 1:+.1%}"
        figures = (c.tensors, c.by_tracker, expected[c.name], c.measured)
        numbers = " | ".join("" if n is None else f"{n / 1e6:,.0f}" for n in figures)
        lines.append(f"| {c.name} | {numbers} | {miss} | {'yes' if c in fitted else ''} |")
    return "\n".join(lines)


def proof() -> str:
    """What the tests say of the tracker on models without weights against real steps."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-q",
            "tests/run/estimate/test_tracker.py",
            "-m",
            "slow or not slow",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("SKIPPED", "FAILED"))]
    shown = [f"- {line.partition(': ')[2] or line}" for line in lines]
    return "\n".join([done.stdout.strip().splitlines()[-1], "", *dict.fromkeys(shown)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time: peaks of memory don't depend on it")
    parser.add_argument("--model-root")
    parser.add_argument("--proof", action="store_true", help="also the tracker's tests of every method")
    parser.add_argument(
        "--claim", action="store_true", help="also the claim's table, and what estimates take themselves"
    )
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    end, folder = time.monotonic() + 60 * asked.minutes, asked.folder.absolute()
    models = ["minilm", *(["smollm2_135m"] if asked.model_root else [])]
    # The quick ones first, so that any time gives cases of every method.
    sweeps = [(model, SIZES[model][place]) for place in range(3) for model in models]
    write_texts(folder / "long.csv")
    cells: dict[Key, dict[str, Any]] = {}
    for model, size in sweeps:
        if time.monotonic() < end:
            print(model, size, flush=True)
            where = [f"model_root={asked.model_root}"] if model != "minilm" else []
            jobs = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={asked.jobs}"] if asked.jobs > 1 else []
            peftbench([*words(folder, model, size), *where, *jobs], end - time.monotonic())
        cells |= estimated(folder, model, size)
    made = [c for k, r in recorded(folder).items() if k in cells and (c := beside(r, cells[k])) is not None]
    if len(made) < 4:
        sys.exit(f"{len(made)} runs are too few to fit anything")
    fitted, others = made[::2], made[1::2]
    made_of = fit(fitted)
    page = table(fitted, others, made_of)
    if asked.claim:
        page += f"\n\n## The claim of 12 to 20 times the weights, in GB\n\n{claim()}"
        page += f"\n\n## What estimates take\n\n{timed()}"
    if asked.proof:
        page += f"\n\n## The tracker without weights against real steps\n\n{proof()}"
    print(page)
    if asked.write:
        made_by = (
            f"Made by `python benchmarks/estimates.py FOLDER --write` on {platform.machine()}, {time.strftime('%F')}."
        )
        (ROOT / "results/estimates.md").write_text(
            f"# Estimates of memory beside measurements\n\n{made_by}\n\n{page}\n"
        )
        kept = {**made_of, "cases": len(fitted)}
        (ROOT / "peftbench/sweep/calibration.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
