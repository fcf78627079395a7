"""`RunRecord`: all that is kept of a run, and how it is read back."""

import dataclasses
import reprlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from peftbench.results import shapes
from peftbench.results.key import protocol

#: Raised when a record's layout changes so that an older reader would misread it.
SCHEMA_VERSION = 1


#: How a run can end. All but the first two, and a trial that was ended early (pruned), are failures and are tried
#: again by the next call.
STATUSES = ("completed", "not_applicable", "oom", "diverged", "pruned", "timeout", "interrupted", "error")


@dataclass(kw_only=True)
class RunRecord:
    """One run. Missing is null. Scores are fractions in [0, 1] (Matthews: [-1, 1]).

    Attributes:
        key: hash of what decides the result (`run_key`).
        status: one of `STATUSES`; `error` says why it isn't the first.
        config: the resolved configuration, without places and sinks.
        metrics: by split: `train` (a fixed slice of the training data), `selection` (the slice carved from train) and
            the official evaluation splits; each with `values`, `score` (their mean), `loss`, `n`, `truncated` (examples
            cut), `directions`; `majority_fraction`, the share of the commonest class among the labels; `rows_in_train`,
            how many of an evaluation split's scored `rows` are among those trained on, word for word, and
            `rows_in_train_folded`, if case and white space don't count; of the split that is scored `by_example`, the
            scores of examples (`statistics.kept`).
            A split that isn't there is null.
        score: the first evaluation split's score; None where its labels are hidden.
        selected_step: the optimiser step whose weights were evaluated.
        selection: on the slice that steps are selected on, `score` of the selected step, `last_score` of the
            `last_step`, and how many `evaluations` there were; None where there was one step to take.
        halving: of a trial that may be ended early, `examples_seen`, and the selection `scores` by examples.
        params: `trainable`, `adapter`, `head`, `total`.
        efficiency: measured figures, the unit in each name; `micro_batch_size` is that in use at the end, halved
            `oom_halvings` times because memory ran out. Of several devices `peak_memory_bytes` is the sum, and
            `peak_memory_bytes_per_device` that of the one that needs the most. `memory_parts_bytes`: by part, tensors
            at the peak of steps on the longest examples (`memory_length` tokens).
        samples: rows trained on (`train`), the examples that they make, and how many of those were cut.
        learnt: what the method says of what it trained (`Method.describe`), such as `soft_prompt`.
        changed: what the command line set of the method and the model, as it was written.
        environment: versions, git commit, CPU and GPU, threads, how OpenMP's threads wait (`openmp`), fingerprints of
            data, model, `inputs` and (of benchmarks) `questions`, time of start (of the process that ended the run),
            and `resumed_at_steps`, where it went on after it had been stopped; `start` is the key of the run whose
            weights it started from; `jobs_beside` is the most other runs on the same results folder that were seen
            beside it on its machine.
        forgetting: where `config.forgetting` is set, by benchmark what the model answered before and after tuning, all
            questions and by part: means, their standard errors, and those of the paired difference.
        evaluation: where `config.evaluation` or `dataset.slices` is set, what was evaluated beyond the score:
            `calibration`, `robustness` by perturbation, `slices` by column.
        footnotes: what a reader of the score must know.
        warnings: what decides whether a figure means anything: each `kind` (`results.warnings.WarningKind`) and `text`.
        protocol: what the scores mean (`protocol`).
        tuning: where `config.tune` is set, what was tried to find the method's hyper-parameters: `trials`, `failed`,
            `pruned` and `examples_seen` (with `tune_halving`), `seed`, `search`, `best` and all that was `tried`, each
            with the key of its record under trials/.
        log: the run's log, relative to the results folder.
        log_tail: of a failed run, the last lines of it.
    """

    key: str
    status: str
    config: dict[str, Any]
    error: str | None = None
    metrics: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    score: float | None = None
    selected_step: int | None = None
    selection: dict[str, float | int | None] | None = None
    params: dict[str, int | None] | None = None
    halving: dict[str, Any] | None = None
    efficiency: dict[str, Any] | None = None
    samples: dict[str, int | None] | None = None
    learnt: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    forgetting: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    footnotes: list[str] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    tuning: dict[str, Any] | None = None
    log: str | None = None
    log_tail: list[str] = field(default_factory=list)
    protocol: int | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.protocol is None:
            self.protocol = protocol(self.config)

    @property
    def scored_split(self) -> dict[str, Any] | None:
        """The figures of the first evaluation split, which `score` is of; None where it has none."""
        return self.metrics.get((self.config["dataset"].get("evaluation") or [""])[0])

    @property
    def notes(self) -> list[str]:
        """All that a reader must know, as texts: the footnotes, and what is warned of."""
        return [*self.footnotes, *(warning["text"] for warning in self.warnings)]

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return dataclasses.asdict(self)


class RecordError(Exception):
    """A file doesn't hold a record that can be read here, or believed."""


def decode(data: bytes) -> RunRecord:
    """Read a record's file.

    Raises:
        RecordError: not a record, or one of another schema version.
    """
    try:
        return from_dict(msgspec.json.decode(data), small=shapes.is_small(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not whole JSON ({error})") from None
    except (RecursionError, MemoryError) as error:
        raise RecordError(f"more than can be read ({type(error).__name__})") from None


def from_dict(value: Any, *, small: bool = False) -> RunRecord:
    """Read a record back: all that it holds is of the types that `shapes` says.

    Args:
        small: `shapes.is_small` says of its text that `shapes.check_size` finds nothing in it.

    Raises:
        RecordError: not a record, or one of another schema version.
    """
    if not isinstance(value, dict):
        raise RecordError("not a JSON object")
    if value.get("schema_version") != SCHEMA_VERSION:
        version = reprlib.repr(value.get("schema_version"))
        raise RecordError(f"schema_version {version}, this peftbench reads {SCHEMA_VERSION}")
    try:
        record = RunRecord(**value)
    except TypeError as error:
        raise RecordError(str(error).replace("RunRecord.__init__() ", "")) from None
    if record.status not in STATUSES:
        raise RecordError(f"status {reprlib.repr(record.status)} is none of {', '.join(STATUSES)}")
    for group in ("model", "method", "dataset"):
        if "name" not in (_dict(_dict(record.config).get(group))):
            raise RecordError(f"config.{group}.name is missing")
    try:
        shapes.check(value, RunRecord)
        if not small:
            shapes.check_size(value)
    except msgspec.ValidationError as error:
        raise RecordError(str(error)) from None
    if record.status == "completed" and record.score is None and not _hidden(record):
        raise RecordError("completed without a score")
    return record


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hidden(record: RunRecord) -> bool:
    """True if the scored split's labels are hidden: it was answered, and has no score."""
    split = record.scored_split
    return isinstance(split, dict) and split.get("score", 0) is None
