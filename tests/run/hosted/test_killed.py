"""Hosted runs killed at the moments that could cost twice: kill -9 of the command line, then the same line again."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peftbench.config import paths
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from tests.helpers.hosted_server import KEY, HostedServer, Script, serve
from tests.helpers.runs import wait

#: Requests that a run may have under way.
AT_ONCE = 2
#: Answers that come before the server falls silent, where a run is killed in the midst of them.
BEFORE = 12


@pytest.fixture
def server() -> Iterator[HostedServer]:
    with serve(Script(answer=lambda chat: "good" if "superb" in chat[-1]["content"] else "bad")) as server:
        yield server


@pytest.fixture
def begin(server: HostedServer, data_root: Path, results: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the same command line each time."""
    words = [
        "model=hosted", "method=hosted", "dataset=sst2", "dataset.verbaliser=[bad,good]", "hosted.model=m",
        f"hosted.base_url={server.base_url}",
        f"data_root={data_root}", f"results_dir={results}", "hosted.poll_s=0.05", "hosted.consent=true",
        "hosted.delete=all", f"hosted.concurrency={AT_ONCE}", "hosted.price_train=3", "hosted.price_input=1",
        "hosted.price_output=2",
    ]  # fmt: skip
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent), "OPENAI_API_KEY": KEY}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "peftbench", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=env,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def silence_after(script: Script, count: int) -> None:
    """Let the server fall silent after so many answers."""
    answer, lock, asked = script.answer, threading.Lock(), [0]

    def counted(chat: list[dict[str, str]]) -> str | None:
        with lock:
            asked[0] += 1
            if asked[0] == count:
                script.hold = "POST /v1/chat"
        return answer(chat)

    script.answer = counted


MOMENTS = {
    "uploaded, and the answer is lost": "POST /v1/files",
    "the job is started, and the answer is lost": "POST /v1/fine_tuning/jobs",
    "waiting for the job": "GET /v1/fine_tuning/jobs/",
    "in the midst of the answers": None,
    "deleting, when all is answered": "DELETE /v1/files",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again_it_is_one_job_one_price_one_record(
    server: HostedServer, begin: Callable[[], subprocess.Popen[str]], results: Path, moment: str
) -> None:
    script = server.script
    script.hold = MOMENTS[moment]
    if script.hold is None:
        silence_after(script, BEFORE)
    killed = begin()
    assert wait(lambda: script.held >= 1), moment
    killed.kill()
    killed.communicate()
    assert not list((results / "records").rglob("*.json"))
    script.hold = None
    again = begin()
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert (len(script.files), len(script.jobs)) == (1, 1)
    (record,) = [record for _, record in ResultStore(results).scan()]
    assert isinstance(record, RunRecord)
    assert (record.status, record.score) == ("completed", 1.0)
    assert record.efficiency is not None
    (job,), questions = script.jobs.values(), record.efficiency["hosted_questions"]
    assert questions is not None
    assert record.efficiency["hosted_price"] == pytest.approx(
        (3 * job["trained_tokens"] + 10 * questions + 2 * 2 * questions) / 1e6
    )
    assert len(script.paths("POST", "/v1/fine_tuning/jobs")) == 1
    # What was under way may be asked again, nothing else.
    assert questions <= len(script.paths("POST", "/v1/chat")) <= questions + AT_ONCE
    assert {"file-0", job["fine_tuned_model"]} == set(script.deleted)
