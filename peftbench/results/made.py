"""A recorded run, as the Python functions return and take it."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from peftbench.errors import ConfigError
from peftbench.results import reading
from peftbench.results.records import RunRecord


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        file: its record's.
        record: what is kept of it (`results.records.RunRecord`, docs/records.md).
    """

    file: Path
    record: RunRecord

    @property
    def score(self) -> float | None:
        """The first evaluation split's score, a fraction; None where the run failed or the labels are hidden."""
        return self.record.score

    @property
    def status(self) -> str:
        """The status in which it ended: `completed`, or another of `results.records.STATUSES`."""
        return self.record.status

    @property
    def results_dir(self) -> Path:
        """The results folder that the record is in."""
        return self.file.absolute().parents[4]

    def __repr__(self) -> str:
        config = self.record.config
        names = (config[group]["name"] for group in ("method", "model", "dataset"))
        score = "" if self.score is None else f", score={self.score:.4f}"
        return f"<Run {' · '.join(names)} · seed {config.get('seed')}: {self.status}{score}>"


def read(run: Run | str | PathLike[str]) -> Run:
    """A run, read from its record's file unless it is one. Raises ConfigError: that is no record."""
    if isinstance(run, Run):
        return run
    record = reading.read(Path(run))
    if not isinstance(record, RunRecord):
        raise ConfigError(f"{run}: no record ({record})")
    return Run(Path(run), record)
