"""What we use of submitit beside its documented interface is still as it was."""

import importlib.metadata
import inspect

import pytest

from peftbench.sweep import submitit_compat

pytest.importorskip("submitit", reason="the extra `submitit` isn't installed")


@pytest.fixture
def changed() -> str:
    here = importlib.metadata.version("submitit")
    return f"submitit {here} isn't as {submitit_compat.WRITTEN_FOR} was; see sweep/submitit_compat.py"


def test_another_command_is_what_jobs_are_asked_by(changed: str) -> None:
    theirs = type(submitit_compat.job_class().watcher)
    watcher = submitit_compat.watcher_by(theirs, ["squeue"], lambda text, jobs: {job: {"State": text} for job in jobs})(
        delay_s=60
    )
    assert watcher._make_command() is None, f"{changed}: it asks though no job waits"
    watcher.register_job("3_0")
    assert watcher._make_command() == ["squeue"], changed
    assert watcher.read_info(b"RUNNING") == {"3_0": {"State": "RUNNING"}}, changed
    asked = inspect.getsource(theirs.update)
    assert "self._make_command()" in asked, changed
    assert "self.read_info(" in asked, changed


def test_a_job_without_a_result_says_so_by_its_error(changed: str) -> None:
    error = submitit_compat.uncompleted_error()
    job = submitit_compat.job_class()
    assert issubclass(error, Exception), changed
    assert any(error.__name__ in inspect.getsource(kind) for kind in job.__mro__[:-1]), changed
    assert list(inspect.signature(job.results).parameters) == ["self"], changed
