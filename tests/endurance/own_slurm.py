"""A Slurm of one's own on one machine, without cgroups and systemd: munged, slurmctld, slurmd, in a folder."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "scontrol", "sinfo")
#: Seconds after which Slurm kills what it has asked to stop: its default.
KILL_WAIT_S = 30
#: Seconds after which a node that doesn't answer is down.
_NODE_S = 30


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
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 // 2**20
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
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
JobRequeue=1
KillWait={KILL_WAIT_S}
SlurmdTimeout={_NODE_S}
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory_mb} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    return file


@dataclass
class Slurm:
    """A running Slurm.

    Attributes:
        environ: the environment of its commands.
    """

    folder: Path
    environ: dict[str, str]
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, command: list[str]) -> None:
        """Start a daemon, which stays in the foreground."""
        with (self.folder / f"{command[0]}.out").open("ab") as log:
            self.started[command[0]] = subprocess.Popen(
                command, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )

    def start_slurmd(self, *options: str) -> None:
        """Start the node's daemon, and wait until the node is there."""
        self.start(["slurmd", "-D", *options])
        wait(lambda: self.say("sinfo", "--noheader", "--format=%t").strip() in ("idle", "mix", "alloc"), 60, "the node")

    def kill_slurmd(self) -> None:
        """Kill the node's daemon; what it has started runs on."""
        self.started["slurmd"].kill()
        self.started["slurmd"].wait()

    def kill_node(self) -> None:
        """Kill all that runs on the node, as a machine that is switched off."""
        listed = self.say("scontrol", "listpids").splitlines()[1:]
        pids = {int(line.split()[0]) for line in listed if line.split()[0] != "-1"}
        pids |= {parent for pid in pids if _name(parent := _parent(pid)) == "slurmstepd"}
        self.kill_slurmd()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def say(self, *command: str) -> str:
        """What a command prints."""
        return subprocess.run(command, env=self.environ, check=True, capture_output=True, text=True).stdout

    def queue(self) -> list[str]:
        """The ids of the jobs and arrays that Slurm has now."""
        return sorted(set(self.say("squeue", "--noheader", "--format=%F").split()))

    def jobs(self, array: str, *states: str) -> list[str]:
        """The ids of an array's jobs in one of some states."""
        asked = ["--noheader", "--array", f"--states={','.join(states)}", "--format=%i", f"--jobs={array}"]
        return self.say("squeue", *asked).split()

    def start_again(self, array: str, count: int) -> None:
        """Start the jobs of an array that were put in the queue again; Slurm would wait two minutes."""
        wait(lambda: len(self.jobs(array, "PENDING")) == count, 6 * _NODE_S, "the jobs in the queue again")
        for job in self.jobs(array, "PENDING"):
            self.say("scontrol", "update", f"jobid={job}", "starttime=now")


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A Slurm of our own, ended afterwards with all of its jobs."""
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    own = Slurm(folder, {**os.environ, "PATH": _path(), "SLURM_CONF": str(_configure(folder))})
    socket_file = folder / "munge.socket"
    try:
        own.start(["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}",
                   f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
                   f"--seed-file={folder}/munged.seed"])  # fmt: skip
        wait(socket_file.exists, 20, f"munged (see {folder})")
        own.start(["slurmctld", "-D", "-c"])
        wait(lambda: _answers(own), 30, f"slurmctld (see {folder})")
        own.start_slurmd("-c")
        yield own
    finally:
        with contextlib.suppress(SystemExit, subprocess.SubprocessError):  # Without slurmd nothing would end the jobs.
            for array in own.queue():
                own.say("scancel", array)
            wait(lambda: not own.queue(), 2 * KILL_WAIT_S, "an empty queue")
        for process in reversed(own.started.values()):
            process.terminate()
        for process in reversed(own.started.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _answers(own: Slurm) -> bool:
    with contextlib.suppress(subprocess.SubprocessError):
        return bool(own.say("sinfo", "--noheader"))
    return False
