"""A sweep that is killed many times, and what is left of it in the end.

    python tests/endurance/kills.py [--kills 50] [--seeds 3] [--folder DIR]

Four methods and some seeds. Each time the sweep is started, one of its processes waits in the middle of a step, of
saving a state, of measuring speed, of putting a record, or between runs, and is killed there with kill -9: the process,
its parent or both. Then: every run has one record, the same as that of a sweep nobody disturbed; none was trained to
its end twice; the leaderboards are the same but for what is measured; no process is left.
"""

import argparse
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
METHODS = sorted(file.stem for file in (HERE / "conf" / "method").glob("*.yaml"))
STEPS = 120
#: Columns of the leaderboard that a clock or a gauge decides, and those of a measurement that a kill can leave out.
MEASURED = re.compile(r"_s$|_s_|_ms|memory|(cpu\w*|cores)_fraction|_forwards|_windows|flops|energy")
#: Footnotes of what a kill leaves no time for.
UNMEASURED = re.compile("inference speed|wasn't measured")


@dataclass(frozen=True)
class Kill:
    """One kill: at the `after`-th time of a `phase`, of `who`."""

    phase: str
    after: int
    who: str


def plan(kills: int, rng: random.Random) -> list[Kill]:
    """Kills in all phases alike. Those of puts come three in a row, as each costs a run its training only once; so does
    one while speed is measured, after which the run is recorded: there are few."""
    quarter, measured = kills // 4, -(-kills // 16)
    puts = [[Kill("put", rng.choice([1, 1, 2, 3]), rng.choice(["parent", "both"])) for _ in range(3)]
            for _ in range(-(-quarter // 3))]  # fmt: skip
    others = [
        [Kill(phase, rng.choice([*range(1, most + 1), 1]), rng.choice(who))]
        for phase, most, who, count in (
            ("step", 10, ["child", "parent", "both"], quarter + kills % 4 - measured),
            ("measure", 2, ["parent", "both"], measured),
            ("state", 20, ["child", "parent", "both"], quarter),
            ("between", 2, ["parent"], quarter),
        )
        for _ in range(count)
    ]
    groups = [*puts, *others]
    rng.shuffle(groups)
    flat = [kill for group in groups for kill in group]
    while len(flat) > kills:
        flat.remove(next(kill for kill in reversed(flat) if kill.phase == "put"))
    return flat


class Sweep:
    """The command line under test, in one folder."""

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder, self.results = folder, folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        self.line = [
            f"--config-dir={HERE / 'conf'}", f"method={','.join(METHODS)}", f"seed={','.join(map(str, range(seeds)))}",
            "model=tiny_bert", "dataset=demo", "recipe.batch_size=8", "recipe.max_length=32", "hardware.threads=1",
            "recipe.eval_samples=64", f"recipe.max_steps={STEPS}", "recipe.eval_steps=9", "checkpoint_every_s=0",
            "fail_fast=true", "measure_examples=8", f"results_dir={self.results}", "-m",
        ]  # fmt: skip

    def start(self, kill: Kill | None) -> subprocess.Popen[str]:
        """Start it, with a place to be killed at."""
        for name in ("met", "reached"):
            (self.folder / name).unlink(missing_ok=True)
        wanted = {"phase": kill.phase, "after": kill.after} if kill else {"phase": None}
        (self.folder / "plan.json").write_text(json.dumps(wanted))
        root = str(HERE.parent.parent)
        environ = {
            **os.environ, "KILL_PLAN": str(self.folder), "PYTHONPATH": os.pathsep.join([root, str(HERE)]),
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled",
        }  # fmt: skip
        log = (self.folder / "out.log").open("a")
        return subprocess.Popen(
            [sys.executable, str(HERE / "victim.py"), *self.line], env=environ, text=True, stdout=log, stderr=log
        )

    def lines(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().split() if path.exists() else []

    def records(self) -> dict[str, dict[str, Any]]:
        """The completed ones by key, as they are on the disk."""
        files = [f for f in (self.results / "records").rglob("*.json") if re.fullmatch(r"[0-9a-f]{20}", f.stem)]
        return {file.stem: json.loads(file.read_text()) for file in files}

    def leaderboard(self) -> str:
        """The leaderboard without what is measured."""
        report = [sys.executable, "-m", "peftbench", "report", f"results_dir={self.results}"]
        root = str(HERE.parent.parent)
        subprocess.run(report, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": root})
        rows = list(csv.reader((self.results / "leaderboard.csv").read_text().splitlines()))
        kept = [i for i, name in enumerate(rows[0]) if not MEASURED.search(name)]
        return "\n".join(",".join(row[i] for i in kept) for row in rows)


def tree(pid: int) -> list[int]:
    """The processes below one."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in file.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *tree(child)]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def kill_once(sweep: Sweep, kill: Kill) -> float:
    """Start the sweep, kill it where the plan says, and see all of it gone; returns the seconds that this took."""
    parent = sweep.start(kill)
    reached = sweep.folder / "reached"
    wait(lambda: reached.exists() or parent.poll() is not None, 300, f"{kill}")
    if not reached.exists():
        raise SystemExit(f"{kill}: the sweep ended (exit status {parent.returncode}) before that; see out.log")
    below = tree(parent.pid)
    # Of the two that it has started, the fork server's child is the run.
    runs = [pid for child in below for pid in tree(child) if tree(child)]
    chosen = {"parent": [parent.pid], "child": runs[:1], "both": [*runs[:1], parent.pid]}[kill.who]
    for pid in chosen or [parent.pid]:
        os.kill(pid, signal.SIGKILL)
    parent.wait(timeout=120)
    killed = time.monotonic()
    wait(lambda: not any(alive(pid) for pid in below), 60, f"{kill}: an orphan is left")
    return time.monotonic() - killed


def check(killed: Sweep, whole: Sweep, seeds: int) -> dict[str, Any]:
    """What must hold in the end."""
    wanted, got = whole.records(), killed.records()
    assert len(wanted) == len(METHODS) * seeds, f"{len(wanted)} undisturbed records"
    assert got.keys() == wanted.keys(), "other records"
    for key, record in got.items():
        for part in ("metrics", "score", "params", "selected_step", "samples", "config"):
            assert record[part] == wanted[key][part], f"{key}: another {part}"
        notes = [[n for n in r["footnotes"] if not UNMEASURED.search(n)] for r in (record, wanted[key])]
        assert notes[0] == notes[1], f"{key}: other footnotes"
    ended = Counter(killed.lines("ended"))
    assert ended == Counter(list(wanted)), f"trained to the end more or less than once: {ended}"
    assert killed.leaderboard() == whole.leaderboard(), "another leaderboard"
    assert not list((killed.results / "unfinished").glob("*")), "a state is left"
    assert not list(killed.results.rglob("*.tmp")), "a temporary file is left"
    return {
        "records": len(got),
        "resumed": sum(len(r["environment"]["resumed_at_steps"]) for r in got.values()),
        "steps": len(killed.lines("steps")),
        "steps undisturbed": len(whole.lines("steps")),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--done", type=int, default=0, help="go on in --folder, where so many kills were made before")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="peftbench-kills-"))
    whole, killed = Sweep(folder / "whole", options.seeds), Sweep(folder / "killed", options.seeds)
    started = time.monotonic()
    assert options.done or whole.start(None).wait(1200) == 0, "the undisturbed sweep failed; see out.log"
    slowest, kills = 0.0, plan(options.kills, random.Random(options.kills))
    for number, kill in enumerate(kills[options.done :], options.done + 1):
        slowest = max(slowest, kill_once(killed, kill))
        done, seconds = len(killed.records()), time.monotonic() - started
        print(f"{number:2} {kill.phase:8} {kill.who:7} {done:2} records, {seconds:.0f} s", flush=True)
    status = killed.start(None).wait(1200)
    assert status == 0, f"the last start ended with {status}; see out.log"
    figures = check(killed, whole, options.seeds)
    print("killed:", dict(Counter(f"{k.phase} ({k.who})" for k in kills)), dict(Counter(k.phase for k in kills)))
    print("in the end:", figures, f"{time.monotonic() - started:.0f} s; the last process gone after {slowest:.1f} s")


if __name__ == "__main__":
    main()
