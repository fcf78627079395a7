"""Hydra's launchers, driven by a list of runs instead of by one of Hydra's sweepers.

A sweeper of Hydra's can only combine; ours leaves out what is done or excluded, and tuning decides its next runs by
the results of those before. Any launcher of Hydra's does: basic, joblib, submitit, ray.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from peftbench.config import hydra_compat, identity, paths
from peftbench.sweep import slurm
from peftbench.sweep.job import GROUP, STOPPED, hydra_job
from peftbench.sweep.launchers import Launcher
from peftbench.system import files, fingerprint, process
from peftbench.system.process_child import children

#: The overrides of each run -> when it returns, every one of them was tried.
Launch = Callable[[Sequence[Sequence[str]]], None]


@contextlib.contextmanager
def launching(overrides: Sequence[str], launcher: Launcher) -> Iterator[Launch]:
    """Yields what runs a batch; a second batch is numbered on, in the same log folder.

    Args:
        overrides: the whole command line's, with Hydra's own among them.
        launcher: how it works: how many runs a batch has, what must be set for it.
    """
    hydra = hydra_compat.main_hydra(paths.CONF)
    try:
        # Hydra's own entry adds the mode too: without it no job would know that it is one of several.
        arguments = [*overrides, *launcher.overrides, "hydra.mode=MULTIRUN"]
        config = hydra.compose_config("config", arguments, RunMode.MULTIRUN, True)
        folder = Path(config.hydra.sweep.dir)
        files.write(folder / GROUP, lambda file: file.write_text(_group(overrides)))
        callbacks = hydra_compat.with_callback(config, _ReleaseConfigurations())
        context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
        plugin: Any = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=hydra_job, config=config
        )
        started = 0

        def launch(runs: Sequence[Sequence[str]]) -> None:
            nonlocal started
            size = launcher.batch or len(runs)
            for first in range(0, len(runs), size):
                batch = runs[first : first + size]
                returned: Sequence[Any] = []
                with _patient(folder / STOPPED, launcher), slurm.watched(launcher):
                    returned = plugin.launch(batch, initial_job_idx=started)
                for done in returned:
                    if done.status is JobStatus.FAILED:
                        _ = done.return_value  # Raises what the job raised: not a run's failure, which is a record.
                started += len(batch)

        yield launch
    finally:
        GlobalHydra.instance().clear()


def _group(overrides: Sequence[str]) -> str:
    """A name for a command line's runs: the same whenever it is started again, wherever its results go."""
    places = identity.sinks()
    words = sorted(word for word in overrides if word.lstrip("+~").partition("=")[0] not in places)
    return fingerprint.of_text("\n".join(words))[:8]


class _ReleaseConfigurations(Callback):
    """Lets go of a run's composed configurations when it has ended: a launcher keeps what a job returns until all have
    ended, 0.25 MB each."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **others: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


@contextlib.contextmanager
def _patient(stopped: Path, launcher: Launcher) -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to joblib's workers, and wait until they have saved their state.

    A second Ctrl-C doesn't wait any more; a second SIGTERM changes nothing, as schedulers repeat it.

    Args:
        stopped: the file that keeps workers from starting further runs.
    """
    if launcher.name != "joblib":
        yield
        return

    def wait(number: int, frame: FrameType | None) -> None:
        if stopped.exists() and number != signal.SIGINT:
            return
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        stopped.touch()
        if number != signal.SIGINT:  # A terminal's Ctrl-C has reached them too. Fork servers and trackers ignore it.
            for pid in children(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in process.SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # `nohup` means it.
            signal.signal(number, wait)
    try:
        yield
    except Exception:  # Being asked can also break what the workers tell joblib.
        if not stopped.exists():
            raise
    finally:
        restore()
    if stopped.exists():
        raise KeyboardInterrupt
