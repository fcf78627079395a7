"""A sweep on a real Slurm that is stopped in the middle of its steps, in all ways that Slurm has, and goes on.

    python tests/endurance/slurm.py [--steps 1500] [--way scancel|signal|requeue|limit|slurmd|sizes ...] [--folder DIR]

Starts a Slurm of its own (`own_slurm.py`) and makes a sweep of two runs as an array. The ways:

- scancel: the array is cancelled; the same line goes on.
- signal: SIGUSR2, as before a preemption; submitit has the jobs put in the queue again.
- requeue: `scontrol requeue`, as a preemption does; the command waits for the jobs, which go on.
- limit: a time limit of a minute is reached, with submitit's `--signal` before it; the same line goes on.
- slurmd: the node's daemon is killed and started again, which the jobs don't notice; then all that runs on the node is
  killed. Slurm starts the jobs again when the node is back, and they go on from the last state that was saved.
- sizes: what the jobs ask for follows from `hardware` and the records.

Afterwards the runs went on from the steps at which they were stopped, and their metrics and adapters are those of a
sweep nobody disturbed, bit for bit. Slurm has no accounting here, and the command says no word of that. Skips, with the
reason, where Slurm or submitit isn't installed, or Slurm doesn't start.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from own_slurm import KILL_WAIT_S, Slurm, missing, slurm, wait

ROOT = Path(__file__).resolve().parents[2]
_LAUNCHER = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main"]
#: Seconds that the run of the way `limit` trains for, at the speed of those before.
_LONG_S = 60


class Sweep:
    """Runs that differ in the seed, in a folder."""

    def __init__(self, folder: Path, steps: int, seeds: int = 2, *, more: tuple[str, ...] = ()) -> None:
        self.folder, self.results, self.count, self.number = folder, folder / "results", seeds, steps
        folder.mkdir(parents=True, exist_ok=True)
        self.line = [
            "method=lora", f"seed={','.join(map(str, range(seeds)))}", "model=tiny_bert", "dataset=demo",
            "recipe.batch_size=8", "recipe.max_length=32", "hardware.threads=1", "recipe.eval_samples=64",
            f"recipe.max_steps={steps}", "recipe.eval_steps=500", "measure=false", "checkpoint_every_s=null",
            f"results_dir={self.results}", "-m", *more,
        ]  # fmt: skip

    def start(self, environ: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        command = [sys.executable, "-m", "peftbench", *self.line, *more]
        with (self.folder / "out.log").open("ab") as log:
            return subprocess.Popen(command, env={**environ, **own}, stdout=log, stderr=log, cwd=self.folder)

    def make(self, environ: dict[str, str], *more: str, status: int = 0) -> None:
        """Make the sweep and see it end with a status."""
        got = self.start(environ, *more).wait(600)
        assert got == status, f"exit status {got}; see {self.folder}/out.log"

    def steps(self) -> list[int]:
        """How far the runs are that are being made."""
        steps = []
        for file in (self.results / "live").glob("run-*.json"):
            with contextlib.suppress(OSError, ValueError):
                steps.append(json.loads(file.read_text())["step"] or 0)
        return steps

    def records(self, status: str) -> list[dict[str, Any]]:
        """Those of a status, by key."""
        records = [json.loads(file.read_text()) for file in (self.results / "records").rglob("*.json")]
        return sorted((r for r in records if r["status"] == status), key=lambda record: str(record["key"]))

    def adapters(self) -> dict[str, str]:
        """What every saved adapter's files hold, by their path under the results folder."""
        files = (self.results / "adapters").rglob("*.safetensors")
        return {str(f.relative_to(self.results)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@contextlib.contextmanager
def started(sweep: Sweep, own: Slurm, *more: str, after: int, status: int) -> Any:
    """A sweep as an array whose runs have all made more than some steps: yields the array's id. Afterwards the command
    ends by itself, with a status."""
    parent = sweep.start(own.environ, *_LAUNCHER, *more)
    try:
        wait(lambda: len(sweep.steps()) == sweep.count and min(sweep.steps()) > after, 300, "the runs' steps")
        (array,) = own.queue()
        yield array
        got = parent.wait(900)
        assert got == status, f"exit status {got}; see {sweep.folder}/out.log"
    finally:
        if parent.poll() is None:
            parent.send_signal(signal.SIGINT)
            parent.wait(60)


def scancel(sweep: Sweep, own: Slurm, after: int) -> None:
    asked = time.monotonic()
    with started(sweep, own, after=after, status=1) as array:
        asked = time.monotonic()
        own.say("scancel", array)
        wait(lambda: not own.queue(), 2 * KILL_WAIT_S, "the array's end")
        print(f"scancel: the jobs are gone after {time.monotonic() - asked:.1f} s", flush=True)
    print(f"scancel: the command has ended after {time.monotonic() - asked:.1f} s", flush=True)
    stopped = sweep.records("interrupted")
    assert len(stopped) == sweep.count, f"{len(stopped)} interrupted records"
    sweep.make(own.environ, *_LAUNCHER)


def by_signal(sweep: Sweep, own: Slurm, after: int) -> None:
    with started(sweep, own, after=after, status=0) as array:
        own.say("scancel", "--signal=USR2", array)
        own.start_again(array, sweep.count)


def requeue(sweep: Sweep, own: Slurm, after: int) -> None:
    with started(sweep, own, after=after, status=0) as array:
        for job in own.jobs(array, "RUNNING"):
            own.say("scontrol", "requeue", job)
        own.start_again(array, sweep.count)


def limit(sweep: Sweep, own: Slurm, after: int) -> None:
    start = time.monotonic()
    sweep.make(own.environ, *_LAUNCHER, "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=5", status=1)
    print(f"limit: the command has ended after {time.monotonic() - start:.1f} s", flush=True)
    stopped = sweep.records("interrupted")
    assert len(stopped) == sweep.count, f"{len(stopped)} interrupted records"
    sweep.make(own.environ, *_LAUNCHER)


def slurmd(sweep: Sweep, own: Slurm, after: int) -> None:
    with started(sweep, own, "checkpoint_every_s=1", after=after, status=0) as array:
        own.kill_slurmd()
        own.start_slurmd()
        before = min(sweep.steps())
        wait(lambda: min(sweep.steps(), default=0) > before, 60, "more steps")
        assert len(own.jobs(array, "RUNNING")) == sweep.count, "the jobs took notice of a daemon that was away"
        own.kill_node()
        wait(lambda: len(own.jobs(array, "PENDING")) == sweep.count, 300, "the jobs of a node that is down")
        # Slurm starts the jobs after two minutes. Told to do so at once, it has the news of their end still to tell the
        # node, which kills them.
        own.start_slurmd("-c")


def sizes(sweep: Sweep, own: Slurm, after: int) -> None:
    """Makes the sweep, and asks Slurm what runs like these, of two threads, ask for."""
    sweep.make(own.environ, *_LAUNCHER)
    (record,) = sweep.records("completed")[:1]
    run_s, peak = (record["efficiency"][name] for name in ("run_time_s", "peak_memory_bytes"))
    further = Sweep(sweep.folder, sweep.number, more=("seed=7,8",))
    with started(further, own, after=0, status=0):
        shown = own.say("scontrol", "--oneliner", "show", "jobs").splitlines()
        running = [line for line in shown if "JobState=RUNNING" in line]
        asked = {tuple(re.findall(r"(?:NumCPUs|TimeLimit|MinMemoryNode)=\S+", line)) for line in running}
        print(f"sizes: a run like it took {run_s:.0f} s and {peak / 1e6:.0f} MB; jobs ask for {asked}", flush=True)
        assert len(asked) == 1, asked
        assert "NumCPUs=1" in str(asked), asked
        assert "MinMemoryNode=3G" in str(asked), asked
        minutes = re.search(r"TimeLimit=00:(\d\d):00", str(asked))
        assert minutes is not None, asked
        assert 5 < int(minutes[1]) < 30, asked


WAYS: dict[str, Callable[[Sweep, Slurm, int], None]] = {
    "scancel": scancel, "signal": by_signal, "requeue": requeue, "limit": limit, "slurmd": slurmd, "sizes": sizes,
}  # fmt: skip


def check(sweep: Sweep, whole: Sweep, *, disturbed: bool) -> None:
    """What must hold in the end."""
    keys = {r["key"] for r in whole.records("completed")}
    wanted, got = whole.records("completed"), [r for r in sweep.records("completed") if r["key"] in keys]
    assert len(wanted) == sweep.count, f"{len(wanted)} undisturbed records"
    assert [r["key"] for r in got] == [r["key"] for r in wanted], "other records"
    stopped = {r["key"]: int(str(r["error"]).split()[3]) for r in sweep.records("interrupted")}
    for mine, other in zip(got, wanted, strict=True):
        resumed = mine["environment"]["resumed_at_steps"]
        assert not disturbed or (resumed and min(resumed) > 0), f"began anew: {resumed}"
        assert not stopped or resumed == [stopped[mine["key"]]], f"resumed at {resumed}, stopped at {stopped}"
        for part in ("metrics", "score", "params", "selected_step", "samples", "config", "footnotes"):
            assert mine[part] == other[part], f"another {part}"
    assert whole.adapters(), "no adapter was saved"
    assert whole.adapters().items() <= sweep.adapters().items(), "other adapters"
    assert not list((sweep.results / "unfinished").glob("*")), "a state is left"
    said = (sweep.folder / "out.log").read_text()
    assert not re.search("sacct|accounting|Traceback", said), f"said more than it should; see {sweep.folder}/out.log"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--way", choices=list(WAYS), nargs="+", default=list(WAYS))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The daemons are ended then, too.
    folder = options.folder or Path(tempfile.mkdtemp(prefix="pb-slurm-"))
    (folder / "slurm").mkdir(parents=True)
    whole = Sweep(folder / "whole", options.steps)
    whole.make(dict(os.environ))
    with contextlib.ExitStack() as running:
        try:
            own = running.enter_context(slurm(folder / "slurm"))
        except SystemExit as error:
            if not isinstance(error.code, str):  # Told to stop.
                raise
            print(f"skipped: Slurm doesn't start here: {error}")
            return
        for way in options.way:
            _try(way, own, whole, options.steps)


def _try(way: str, own: Slurm, whole: Sweep, steps: int) -> None:
    """Disturb a sweep in one of the ways and compare it with the undisturbed one.

    whole: the undisturbed sweep, of so many `steps`.
    """
    begun, undisturbed, seeds, folder = time.monotonic(), whole, whole.count, whole.folder.parent
    if way == "limit":
        rate = steps / whole.records("completed")[0]["efficiency"]["train_time_s"]
        undisturbed, seeds = Sweep(folder / "long", int(_LONG_S * rate), 1), 1
        undisturbed.make(dict(os.environ))
    sweep = Sweep(folder / way, undisturbed.number, seeds)
    WAYS[way](sweep, own, steps // 10)
    check(sweep, undisturbed, disturbed=way != "sizes")
    resumed = [r["environment"]["resumed_at_steps"] for r in sweep.records("completed")][:seeds]
    print(f"{way}: bit-equal; went on at {resumed} of {sweep.number}; {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
