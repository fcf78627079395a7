"""What is kept of a run: one `RunRecord`, and the key that identifies it. Free of torch."""

import dataclasses
import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from peftbench import fingerprint, formulations, shapes

if TYPE_CHECKING:
    from peftbench.schema import RunConfig

#: Raised when a record's layout changes so that an older reader would misread it.
SCHEMA_VERSION = 1

#: By formulation. Raised when the meaning of its scores changes: an older record then isn't "the same run" any more.
#: text 2: a prompt in evaluation doesn't depend on the right answer's length.
PROTOCOL = {"head": 1, "verbaliser": 1, "text": 2}

#: How a run can end. All but the first two are failures and are tried again by the next call.
STATUSES = ("completed", "not_applicable", "oom", "diverged", "timeout", "interrupted", "error")


@dataclass(kw_only=True)
class RunRecord:
    """One run. Missing is null. Scores are fractions in [0, 1] (Matthews: [-1, 1]).

    Attributes:
        key: hash of what decides the result (`run_key`).
        status: one of `STATUSES`; `error` says why it isn't the first.
        config: the resolved configuration, without places and sinks.
        metrics: by split: `train` (a fixed slice of the training data), `selection` (the slice carved from train) and
            the official evaluation splits; each with `values`, `score` (their mean), `loss`, `n`, `truncated` (examples
            cut), `directions`; `rows_in_train`, how many of an evaluation split's scored rows are among those trained
            on, word for word, and `rows_in_train_folded`, if case and white space don't count.
            A split that isn't there is null.
        score: the first evaluation split's score; None where its labels are hidden.
        selected_step: the optimiser step whose weights were evaluated.
        params: `trainable`, `adapter`, `head`, `total`.
        efficiency: measured figures, the unit in each name; `micro_batch_size` is that in use at the end, halved
            `oom_halvings` times because memory ran out. Of several devices `peak_memory_bytes` is the sum, and
            `peak_memory_bytes_per_device` that of the one that needs the most.
        samples: rows trained on (`train`), the examples that they make, and how many of those were cut.
        learnt: what the method says of what it trained (`Method.describe`), such as `soft_prompt`.
        changed: what the command line set of the method and the model, as it was written.
        environment: versions, git commit, CPU and GPU, threads, how OpenMP's threads wait (`openmp`), fingerprints of
            data, model, `inputs` and (of benchmarks) `questions`, time of start (of the process that ended the run),
            and `resumed_at_steps`, where it went on after it had been stopped; `jobs_beside` is the most other runs on
            the same results folder that were seen beside it on its machine.
        forgetting: where `config.forgetting` is set, by benchmark what the model answered before and after tuning, all
            questions and by part: means, their standard errors, and those of the paired difference.
        footnotes: what a reader of the score must know.
        protocol: what the scores mean (`protocol`).
        tuning: where `config.tune` is set, what was tried to find the method's hyper-parameters: `trials`, `failed`,
            `seed`, `search`, `best` and all that was `tried`, each with the key of its record under trials/.
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
    params: dict[str, int | None] | None = None
    efficiency: dict[str, float | int | None] | None = None
    samples: dict[str, int | None] | None = None
    learnt: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    forgetting: dict[str, Any] | None = None
    footnotes: list[str] = field(default_factory=list)
    tuning: dict[str, Any] | None = None
    log: str | None = None
    log_tail: list[str] = field(default_factory=list)
    protocol: int | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.protocol is None:
            self.protocol = protocol(self.config)

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
        return from_dict(msgspec.json.decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not whole JSON ({error})") from None
    except (RecursionError, MemoryError) as error:
        raise RecordError(f"more than can be read ({type(error).__name__})") from None


def from_dict(value: Any) -> RunRecord:
    """Read a record back: all that it holds is of the types that `shapes` says.

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
        shapes.check_size(value)
    except msgspec.ValidationError as error:
        raise RecordError(str(error)) from None
    if record.status == "completed" and record.score is None and not _hidden(record):
        raise RecordError("completed without a score")
    return record


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hidden(record: RunRecord) -> bool:
    """Whether the scored split's labels are hidden: it was answered, and has no score."""
    split = record.metrics.get((record.config["dataset"].get("evaluation") or [""])[0])
    return isinstance(split, dict) and split.get("score", 0) is None


def protocol(config: dict[str, Any]) -> int:
    """What a run's scores mean today: its formulation's number, and one more where its rows are read otherwise than
    at first. `config`: as a record keeps it."""
    dataset = config.get("dataset") or {}
    marks_moved = any(_marks_moved(part) for part in dataset.get("parts") or [dataset])
    return PROTOCOL.get(formulations.described(config), 1) + marks_moved


def _marks_moved(dataset: dict[str, Any]) -> bool:
    """Whether a span pair's words are looked for by number, which wasn't compared with the text at first, or stand in
    one text, where they may nest."""
    spans = dataset.get("spans") or []
    return any(span.get("word") for span in spans) or len({span["text"] for span in spans}) < len(spans)


def run_key(config: "RunConfig", *, data: str, model: str, inputs: dict[str, str] | None = None) -> str:
    """The key of a run: 20 hex digits of a hash over what decides its result.

    Args:
        data: the data's fingerprint.
        model: the checkpoint's fingerprint.
        inputs: fingerprints of what the method reads besides, by name.
    """
    from peftbench import schema  # Brings OmegaConf, which reading records does without.

    meaning = protocol(schema.description(config))
    identity = {"config": schema.identity(config), "data": data, "model": model, "protocol": meaning}
    if inputs:
        identity["inputs"] = inputs
    return fingerprint.of_json(identity)[:20]


def key_of(record: RunRecord) -> str:
    """The key that a completed run's record should have, by what it says of its configuration, data, model and inputs,
    and by its own protocol: that of a record that was altered isn't its `key`."""
    from peftbench import schema

    environment = record.environment
    asked = environment.get("questions") or {
        name: answers["data_fingerprint"] for name, answers in (record.forgetting or {}).items()
    }
    inputs = {**(environment.get("inputs") or {}), **{f"forgetting.{name}": of for name, of in asked.items()}}
    identity = {
        "data": environment.get("data_fingerprint"),
        "model": environment.get("model_fingerprint"),
        "protocol": record.protocol,
        **({"inputs": inputs} if inputs else {}),
    }
    texts = {name: fingerprint.text(value) for name, value in identity.items()}
    config = schema.described_identity(record.config)
    return fingerprint.of_text(fingerprint.object_text({"config": config, **texts}))[:20]
