"""How many runs a launcher has at a time, and what of the machine each of them gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.system import load
from peftbench.system.gpus import gpus


@dataclass(frozen=True)
class Launcher:
    """A launcher and how it works.

    Attributes:
        name: Hydra's name of it.
        at_once: runs at a time; None: that is the cluster's affair.
        threads: what a run gets whose `hardware.threads` is null; None: torch's own choice.
        batch: runs handed over at a time, where the launcher itself knows no limit; None: all.
        overrides: of Hydra's own configuration, what must be set for it.
        alone: whether a process of its makes one run, and is asked to stop, or put in the queue again, without the
            others.
        unsaid: what a queue is asked for and nobody said: the names of the launcher's arguments.
        asked: what each run asks a queue for, in words.
    """

    name: str = "basic"
    at_once: int | None = 1
    threads: int | None = None
    batch: int | None = None
    overrides: tuple[str, ...] = ()
    alone: bool = False
    unsaid: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    def divide(self, config: RunConfig, words: list[str]) -> tuple[RunConfig, list[str]]:
        """A run with its share of the machine's threads, written into its configuration as a person would: the key of
        the run is then the same whatever launches it."""
        if self.threads is None or config.hardware.threads is not None:
            return config, words
        each = max(1, self.threads // config.hardware.devices)
        hardware = replace(config.hardware, threads=each)
        return replace(config, hardware=hardware), [*words, f"hardware.threads={each}"]


NONE = Launcher()


def describe(launcher: DictConfig, configs: Sequence[RunConfig]) -> Launcher:
    """The launcher that Hydra's `hydra.launcher` node means for these runs.

    Raises:
        ConfigError: a number in it can't be.
    """
    kind = str(launcher.get("_target_")).rpartition(".")[2]
    describes = _BY_CLASS.get(kind)
    return NONE if describes is None else describes(launcher, configs)


def _joblib(launcher: Any, configs: Sequence[RunConfig]) -> Launcher:
    jobs, cores = launcher.n_jobs, len(load.usable_cores())
    if jobs == 0:
        raise ConfigError("hydra.launcher.n_jobs=0: allowed is a number of runs at a time, or -1")
    if jobs < 0:
        # joblib's reading of -1, -2 ...; but a GPU holds one run, and a run may have several devices.
        jobs = max(1, (cores + 1 + jobs) // _cpus(configs))
        if any(config.hardware.accelerator == "gpu" for config in configs):
            jobs = min(jobs, max(1, len(gpus()) // _devices(configs)))
    jobs = min(jobs, len(configs))
    return Launcher("joblib", jobs, threads=max(1, cores // jobs), overrides=(f"hydra.launcher.n_jobs={jobs}",))


def _devices(configs: Sequence[RunConfig]) -> int:
    """Devices of the run that has the most."""
    return max(config.hardware.devices for config in configs)


def _cpus(configs: Sequence[RunConfig], *, workers: bool = False) -> int:
    """CPUs of the run that needs the most: a thread each where `hardware.threads` says no number.

    Args:
        workers: whether processes that prepare batches count too.
    """

    def needed(config: RunConfig) -> int:
        hardware = config.hardware
        return hardware.devices * ((hardware.threads or 1) + (hardware.workers if workers else 0))

    return max(map(needed, configs))


def _submitit_local(launcher: Any, configs: Sequence[RunConfig]) -> Launcher:
    """submitit's local executor starts all runs of a batch at once: a batch has no more runs than there are cores."""
    cores = len(load.usable_cores())
    jobs = min(len(configs), cores // (launcher.cpus_per_task or _cpus(configs)) or 1)
    return Launcher("submitit_local", jobs, threads=launcher.cpus_per_task or max(1, cores // jobs), batch=jobs)


def _slurm(launcher: Any, configs: Sequence[RunConfig]) -> Launcher:
    """The launcher of Slurm, whose jobs ask for what their runs' `hardware` says, unless the command line says
    otherwise; their memory and time are known later (`slurm.sized`)."""
    cpus = launcher.cpus_per_task or _cpus(configs, workers=True)
    asked, gpus_asked = {} if launcher.cpus_per_task else {"cpus_per_task": cpus}, ("gpus_per_node", "gres", _PER_TASK)
    if any(config.hardware.accelerator == "gpu" for config in configs) and not _says(launcher, *gpus_asked):
        asked["gpus_per_node"] = _devices(configs)
    gpus_each = asked.get("gpus_per_node")
    unsaid = () if _says(launcher, "mem_gb", "mem_per_cpu", "mem_per_gpu") else ("mem_gb",)
    return Launcher(
        "submitit_slurm",
        None,
        threads=launcher.cpus_per_task or 1,
        overrides=tuple(f"hydra.launcher.{name}={value}" for name, value in asked.items()),
        alone=True,
        unsaid=(*unsaid, "timeout_min"),
        asked=(f"{cpus} CPU{'s' * (cpus > 1)}", *([f"{gpus_each} GPU{'s' * (gpus_each > 1)}"] if gpus_each else [])),
    )


_PER_TASK = "gpus_per_task"


def _says(launcher: Any, *names: str) -> bool:
    """True if one of a launcher's arguments is set."""
    return any(launcher.get(name) is not None for name in names)


def _ray(launcher: Any, configs: Sequence[RunConfig]) -> Launcher:
    """A run gets as many threads as Ray counts CPUs for it; where the command line sets no number, as many as joblib
    would give."""
    each = launcher.ray.remote.get("num_cpus")
    if launcher.ray.init.get("address") is not None:
        return Launcher("ray", None, threads=int(each or 1))
    cores = int(launcher.ray.init.get("num_cpus") or len(load.usable_cores()))
    taken = int(each or _cpus(configs))
    jobs = min(len(configs), max(1, cores // taken))
    # Ray counts the machine's CPUs, not those that this process may use, and one for a run.
    counted = (f"++hydra.launcher.ray.init.num_cpus={cores}", f"++hydra.launcher.ray.remote.num_cpus={taken}")
    return Launcher("ray", jobs, threads=int(each or max(1, cores // jobs)), overrides=counted)


_BY_CLASS: dict[str, Callable[[Any, Sequence[RunConfig]], Launcher]] = {
    "JoblibLauncher": _joblib,
    "LocalLauncher": _submitit_local,
    "SlurmLauncher": _slurm,
    "RayLauncher": _ray,
}
