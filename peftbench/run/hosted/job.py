"""The job of a hosted run: paid once, whatever becomes of the process that waits for it.

What is known of it is on the disk before the next step is taken. The steps themselves can't be made twice either: the
file's name holds a word that only this run has, and a job is found again by its file (`Server.upload`, `Server.start`).
"""

import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peftbench.config.types import RunConfig
from peftbench.errors import Failed
from peftbench.run.hosted.check import settings
from peftbench.run.hosted.rows import Chat
from peftbench.run.hosted.server import Server
from peftbench.system import files, stop
from peftbench.system.process_group import Emit

_FILE = "job.json"
_ENDED_BADLY = ("failed", "cancelled")


@dataclass(frozen=True)
class JobState:
    """The state of a run's job, as far as it is known; nulls for steps that weren't taken.

    Attributes:
        token: the word in the file's name that only this run has.
        file, job, model: ids at the server.
        trained_tokens: as the server counts them, all epochs; `seconds`: from the job's creation to its end.
    """

    token: str
    file: str | None = None
    job: str | None = None
    model: str | None = None
    trained_tokens: int | None = None
    seconds: float | None = None


def read(folder: Path) -> JobState | None:
    """The state that a stopped run left in its folder; None: it hadn't begun.

    Raises:
        Failed: it can't be read: a job may be running, and another isn't started for want of its name.
    """
    file = folder / _FILE
    if not file.exists():
        return None
    try:
        return JobState(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Failed(f"{file}: can't be read ({error}); look for the job at the server before deleting it") from None


def _write(folder: Path, state: JobState) -> JobState:
    files.write(folder / _FILE, lambda temporary: temporary.write_text(json.dumps(asdict(state)), encoding="utf-8"))
    return state


def content(training: list[Chat]) -> bytes:
    """The training file: a chat a line, as JSON."""
    lines = [json.dumps({"messages": chat}, ensure_ascii=False) for chat in training]
    return "".join(f"{line}\n" for line in lines).encode()


def tuned(server: Server, config: RunConfig, key: str, training: list[Chat], folder: Path, emit: Emit) -> JobState:
    """Have the server train on the chats, from where a stopped run got to; returns the state with its model.

    Raises:
        Failed: the job ended without a model. The next start makes another.
    """
    hosted = settings(config)
    state = read(folder) or _write(folder, JobState(secrets.token_hex(8)))
    if state.file is None:
        emit({"event": "phase", "phase": "uploading"})
        state = replace(state, file=server.upload(f"peftbench-{key}-{state.token}.jsonl", content(training)))
        _write(folder, state)
    if state.job is None:
        options: dict[str, Any] = {"n_epochs": config.recipe.epochs, **(hosted.hyperparameters or {})}
        job = server.start(
            str(hosted.model), str(state.file), seed=config.seed, suffix=f"peftbench-{key[:8]}", hyperparameters=options
        )
        state = _write(folder, replace(state, job=job))
    if state.model is None:
        state = _waited(server, state, folder, hosted.poll_s, emit)
    return state


def _waited(server: Server, state: JobState, folder: Path, poll_s: float, emit: Emit) -> JobState:
    """Wait for the job's end."""
    emit({"event": "phase", "phase": "waiting for the job"})
    while True:
        stop.check()
        job = server.job(str(state.job))
        if job.status in _ENDED_BADLY:
            (folder / _FILE).unlink()
            raise Failed(f"the server's job {job.status}: {job.error or 'it says no reason'}")
        if job.status == "succeeded" and job.model:
            seconds = None if job.finished is None else job.finished - job.created
            ended = replace(state, model=job.model, trained_tokens=job.trained_tokens, seconds=seconds)
            return _write(folder, ended)
        time.sleep(poll_s)


def tidied(server: Server, state: JobState, what: str) -> None:
    """Delete at the server what `hosted.delete` says: nothing, the upload, or all that the run left there."""
    if what != "nothing" and state.file is not None:
        server.delete_file(state.file)
    if what == "all" and state.model is not None:
        server.delete_model(state.model)
