"""A sweep on a real Slurm that is cancelled in the middle of its steps, and goes on from there.

    python tests/endurance/slurm.py [--steps 1500] [--way scancel|SIGUSR2 ...] [--folder DIR]

Starts a Slurm of its own (munged, slurmctld, slurmd) in a temporary folder, which needs no cgroups and no systemd, and
ends it. A sweep of two runs as an array (`hydra/launcher=submitit_slurm`) is stopped in each of the ways that Slurm
has: `scancel`, and SIGUSR2 as before a time limit or a preemption, after which submitit has the job put in the queue
again. Then: the runs went on from the steps at which they were stopped, and their metrics and adapters are those of a
sweep nobody disturbed, bit for bit. Skips, with the reason, where Slurm or submitit isn't installed.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo")
_SEEDS = 2
#: What is given to scancel, by what it stands for.
_WAYS: dict[str, list[str]] = {"scancel": [], "SIGUSR2": ["--signal=USR2"]}
#: Seconds after which Slurm kills what it has asked to stop: its default.
_KILL_WAIT_S = 30


def missing() -> str | None:
    """Why this can't be tried here; None: it can."""
    absent = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    if importlib.util.find_spec("submitit") is None:
        return "the extra submitit isn't installed"
    return None


def _path() -> str:
    """The search path, with the folders of daemons."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def wait(until: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _configure(folder: Path) -> Path:
    """Write slurm.conf for this machine alone; tasks are followed by their process groups."""
    user, host = subprocess.check_output(["id", "-un"], text=True).strip(), socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    file = folder / "slurm.conf"
    file.write_text(
        f"""ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait={_KILL_WAIT_S}
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    return file


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm of our own; yields the environment of its commands."""
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    environ = {**os.environ, "PATH": _path(), "SLURM_CONF": str(_configure(folder))}
    socket_file = folder / "munge.socket"
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}",
             f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
             f"--seed-file={folder}/munged.seed"]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> None:
        with (folder / f"{command[0]}.out").open("wb") as log:
            started.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True))

    try:
        start(munge)
        wait(socket_file.exists, 20, f"munged (see {folder})")
        start(["slurmctld", "-D", "-c"])
        start(["slurmd", "-D", "-c"])
        state = ["sinfo", "--noheader", "--format=%t"]
        wait(
            lambda: "idle" in subprocess.run(state, env=environ, capture_output=True, text=True).stdout,
            60,
            f"an idle node (see {folder})",
        )
        yield environ
    finally:
        with contextlib.suppress(SystemExit, subprocess.SubprocessError):  # Without slurmd nothing would end the jobs.
            for array in in_queue(environ):
                subprocess.run(["scancel", array], env=environ, check=True)
            wait(lambda: not in_queue(environ), 2 * _KILL_WAIT_S, "an empty queue")
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


class Sweep:
    """Two runs, in a folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.results = folder, folder / "results"
        folder.mkdir(parents=True)
        self.line = [
            "method=lora", f"seed={','.join(map(str, range(_SEEDS)))}", "model=tiny_bert", "dataset=demo",
            "recipe.batch_size=8", "recipe.max_length=32", "hardware.threads=1", "recipe.eval_samples=64",
            f"recipe.max_steps={steps}", "recipe.eval_steps=500", "checkpoint_every_s=null",
            f"results_dir={self.results}", "-m",
        ]  # fmt: skip

    def start(self, environ: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        command = [sys.executable, "-m", "peftbench", *self.line, *more]
        with (self.folder / "out.log").open("ab") as log:
            return subprocess.Popen(command, env={**environ, **own}, stdout=log, stderr=log, cwd=self.folder)

    def make(self, environ: dict[str, str], *more: str) -> None:
        """Make the sweep and see it completed."""
        status = self.start(environ, *more).wait(600)
        assert status == 0, f"exit status {status}; see {self.folder}/out.log"

    def steps(self) -> list[int]:
        """How far the runs are that are being made."""
        found = []
        for file in (self.results / "live").glob("run-*.json"):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(file.read_text())["step"] or 0)
        return found

    def records(self, status: str) -> list[dict[str, Any]]:
        """Those of a status, by key."""
        found = [json.loads(file.read_text()) for file in (self.results / "records").rglob("*.json")]
        return sorted((r for r in found if r["status"] == status), key=lambda record: str(record["key"]))

    def adapters(self) -> dict[str, str]:
        """What every saved adapter's files hold, by their path under the results folder."""
        files = (self.results / "adapters").rglob("*.safetensors")
        return {str(f.relative_to(self.results)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def in_queue(environ: dict[str, str]) -> list[str]:
    """The ids of the arrays that Slurm has now."""
    show = ["squeue", "--noheader", "--format=%F"]
    return sorted(set(subprocess.check_output(show, env=environ, text=True).split()))


def start_again(array: str, environ: dict[str, str]) -> None:
    """Start the runs of an array that is in the queue again; Slurm would wait two minutes."""
    show = ["squeue", "--noheader", "--array", "--states=PENDING", "--format=%i", f"--jobs={array}"]

    def waiting() -> list[str]:
        return subprocess.check_output(show, env=environ, text=True).split()

    wait(lambda: len(waiting()) == _SEEDS, 2 * _KILL_WAIT_S, "the array in the queue again")
    for job in waiting():
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], env=environ, check=True)


def stop_by_slurm(sweep: Sweep, environ: dict[str, str], launcher: list[str], how: list[str], after: int) -> None:
    """Start the sweep as an array and, when all of its runs have made some more steps, cancel or signal it."""
    parent = sweep.start(environ, *launcher)
    try:
        wait(lambda: len(sweep.steps()) == _SEEDS and min(sweep.steps()) > after, 300, "the runs' steps")
        (array,) = in_queue(environ)
        asked = time.monotonic()
        subprocess.run(["scancel", *how, array], env=environ, check=True)
        if how:
            start_again(array, environ)
            status = parent.wait(900)
            assert status == 0, f"exit status {status}; see {sweep.folder}/out.log"
            return
        wait(lambda: not in_queue(environ), 2 * _KILL_WAIT_S, "the array's end")
        print(f"scancel {array}: gone after {time.monotonic() - asked:.1f} s", flush=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            parent.wait(60)
    finally:
        if parent.poll() is None:
            # Without accounting submitit doesn't learn that a job has gone.
            parent.send_signal(signal.SIGINT)
            parent.wait(60)


def check(sweep: Sweep, whole: Sweep, stopped: list[list[int]]) -> None:
    """What must hold in the end.

    Args:
        stopped: for each run, by key, the steps at which it was stopped.
    """
    wanted, got = whole.records("completed"), sweep.records("completed")
    assert len(wanted) == _SEEDS, f"{len(wanted)} undisturbed records"
    assert [r["key"] for r in got] == [r["key"] for r in wanted], "other records"
    for mine, other, steps in zip(got, wanted, stopped, strict=True):
        resumed = mine["environment"]["resumed_at_steps"]
        assert resumed, "began anew"
        assert min(resumed) > 0, f"began anew: {resumed}"
        assert not steps or resumed == steps, f"resumed at {resumed}, stopped at {steps}"
        for part in ("metrics", "score", "params", "selected_step", "samples", "config", "footnotes"):
            assert mine[part] == other[part], f"another {part}"
    assert whole.adapters(), "no adapter was saved"
    assert sweep.adapters() == whole.adapters(), "other adapters"
    assert not list((sweep.results / "unfinished").glob("*")), "a state is left"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--way", choices=sorted(_WAYS), nargs="+", default=sorted(_WAYS))
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
    with slurm(folder / "slurm") as environ:
        for way in options.way:
            _try(way, Sweep(folder / way, options.steps), whole, environ, after=options.steps // 10)


def _try(way: str, sweep: Sweep, whole: Sweep, environ: dict[str, str], *, after: int) -> None:
    """Stop a sweep in one of the ways, after so many steps, and see it go on."""
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1"]
    stop_by_slurm(sweep, environ, launcher, _WAYS[way], after)
    stopped = sweep.records("interrupted")
    errors = [str(record["error"]) for record in stopped]
    assert all("goes on from there" in error for error in errors), errors
    if way == "scancel":
        assert len(stopped) == _SEEDS, f"{len(stopped)} interrupted records"
        sweep.make(environ, *launcher)
    check(sweep, whole, [[int(error.split()[3])] for error in errors] or [[]] * _SEEDS)
    print(f"{way}: went on at", [r["environment"]["resumed_at_steps"] for r in sweep.records("completed")], flush=True)


if __name__ == "__main__":
    main()
