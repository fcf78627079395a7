"""The dataclasses of a run's configuration. They hold types and rules, never values: those live in conf/."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Optional

from peftbench.config.forgetting import BenchmarkConfig
from peftbench.config.rules import Rule, between, one_of

#: In the place of max or min: what the metric itself says.
AS_METRIC = "as the metric"

_NOT_EMPTY = Rule(lambda x: len(x) > 0 and len(set(x)) == len(x), "a list of one or more different names")


def _ruled(rule: Rule) -> Any:
    return field(metadata={"rule": rule})


def _words() -> Any:
    """A field that describes and changes nothing: it doesn't identify a run."""
    return field(default=None, metadata={"identity": False})


def _sink(default: Any = dataclasses.MISSING, *, rule: Rule | None = None, **more: Any) -> Any:
    """A field that says where things are or go, or how a run survives: it can't change a score, so it doesn't identify
    a run."""
    return field(default=default, metadata={"identity": False, "sink": True, "rule": rule}, **more)


_COUNT = between(1, 1e12)
_COMMIT = Rule(lambda x: re.fullmatch("[0-9a-f]{40}", x) is not None, "a whole commit id, 40 hex digits")
_FILES = Rule(lambda x: "{split}" in x and ".." not in x, "a pattern with {split} in it, without '..'")


@dataclass(kw_only=True)
class ModelConfig:
    """A checkpoint, or (`config`) an architecture to start at random; the names of its parts."""

    name: str
    family: str = _ruled(one_of("encoder", "decoder", "encoder_decoder"))
    head: list[str] = _ruled(_NOT_EMPTY)
    sites: dict[str, Any] = field(metadata={"identity": False})
    checkpoint: Optional[str] = None
    revision: Optional[str] = None
    package: Optional[str] = None
    #: A GGUF file in a Python package, which `peftbench convert` makes a folder of.
    gguf: Optional[str] = _words()
    config: Optional[dict[str, Any]] = None
    trust_remote_code: bool = False


@dataclass(kw_only=True)
class MethodConfig:
    """A way of training: the `Method` class, the adapter it adds (a peft config and its arguments), its rate."""

    name: str
    target: str
    lr: Optional[float] = field(metadata={"rule": between(0, 100, above=True)})
    supports: list[str] = field(metadata={"identity": False})
    head_lr: Optional[float] = field(default=None, metadata={"rule": between(0, 100, above=True)})
    site: Optional[str] = None
    adapter: Optional[dict[str, Any]] = None
    quantization: Optional[dict[str, Any]] = None
    args: dict[str, Any] = field(default_factory=dict)
    #: Paths of what it reads beside model and data; their contents identify a run, not where they lie.
    inputs: dict[str, Optional[str]] = field(default_factory=dict, metadata={"identity": False, "sink": True})
    #: Where it can't in every way; the first is then what `formulation=auto` means.
    formulations: Optional[list[str]] = _words()
    #: Promises: it folds into the weights; untrained it answers as the base does (null: nearly so, having
    #: a small random start); gradient checkpointing works; weights may be shared out over devices.
    mergeable: Optional[bool] = _words()
    identity: Optional[bool] = _words()
    checkpointing: Optional[bool] = _words()
    sharding: Optional[bool] = _words()
    #: Whether it looks at the training split at all: false where the evaluation splits are enough.
    reads_train: Optional[bool] = _words()
    footnote: Optional[str] = _words()
    search: Optional[dict[str, Any]] = _words()
    family: Optional[str] = _words()
    summary: Optional[str] = _words()
    source: Optional[str] = _words()


@dataclass(kw_only=True)
class CarveConfig:
    """The slice that is cut out of train: `fraction` of its rows, `at_most` so many, drawn with `seed`."""

    fraction: float = _ruled(between(0, 0.9, above=True))
    at_most: int = _ruled(_COUNT)
    seed: int = _ruled(between(0, 2**31))


@dataclass(kw_only=True)
class SpanConfig:
    """A marked word: in which text column; the columns that hold its first and last + 1 character (`start`, `end`), or
    its number among the words and itself (`word`, `surface`); and what is put around it."""

    text: str
    mark: str
    start: Optional[str] = None
    end: Optional[str] = None
    word: Optional[str] = None
    surface: Optional[str] = None


@dataclass(kw_only=True)
class GenerationConfig:
    """How answers are written: the most tokens, and of a beam search (more than one beam) the power of a text's length
    that its log likelihood is divided by."""

    max_new_tokens: int = _ruled(_COUNT)
    num_beams: int = field(default=1, metadata={"rule": between(1, 64)})
    length_penalty: float = field(default=1.0, metadata={"rule": between(-10, 10)})


@dataclass(kw_only=True)
class WritingConfig:
    """How a number or a name is asked for and written, where answers as text are neither label words nor free: the text
    around `{answer}`, its most tokens, and what a number is rounded to (null: nothing)."""

    template: str
    max_new_tokens: int = _ruled(_COUNT)
    step: Optional[float] = field(default=None, metadata={"rule": between(0, 1e9, above=True)})


@dataclass(kw_only=True)
class DatasetConfig:
    """Where the examples are (hub path, generator or files), what their columns mean, how they are split and scored.

    Attributes:
        text: columns that hold text; `label`: the one that holds the label; `labels`: its names by index.
        inputs: for a head: the one text or the pair that the model is given, as templates; null: the text columns.
        template, verbaliser: for label words: the text around `{answer}`, and the word of every label.
        cut: columns that may be cut where an example is too long; null: all, the longest first.
        phrases: by column what stands in the text for each of its values.
        columns: what the data calls a column, by the name here, where that differs.
        revision: commit, branch or tag on the hub; null: `commit`, or else main, as it is when it is first asked for.
            `files`: where the hub has a split's files, with `{config}` and `{split}`, if not in
            `{config}/{split}-*.parquet`. These two say where the contents are, which identify a run.
        drop_unanswered: leave out rows that have no right answer.
        train_config: the hub config whose train split is used, where this one has none; `train_columns`: the same as
            `columns` for it.
        choices: columns that hold a choice each, or one that holds the list of them.
        spans: the marked words of a span pair.
        group: columns of equal values in rows that are scored together; `group_size`: so many rows, one after another,
            of the evaluation splits.
        candidates: the column that lists what can stand in the place of `placeholder`, and `answers` that of those
            which are right: every candidate is an example. For generation `answers` alone: the column of the right
            text, or of the list of them.
        generation: how answers are written, where they are texts; `writing`: where they are numbers or names.
        format, train_file, validation_file: of the user's own files; `separator`: between a CSV file's columns (null:
            a comma); `encoding`: null: UTF-8; `drop_unlabelled`: rows without a label are left out, not refused.
        parts: of a mixture, its parts' configurations (`DatasetConfig`; in the file their names); `mixing`: whether an
            example of a part is trained on as often as any other (examples), or by a `temperature` (`MixedBatches`).
        max_length: tokens that its examples need, where the usual ones are too few; `recipe.max_length` follows.
        suite: the benchmark it is a part of; `title`: what reports call it.
    """

    name: str
    task: str
    text: list[str] = _ruled(Rule(lambda x: len(set(x)) == len(x), "a list of different names"))
    label: Optional[str] = None
    labels: Optional[list[str]] = field(
        default=None,
        metadata={"rule": Rule(lambda x: len(set(x)) == len(x) > 1, "a list of two or more different names")},
    )
    train: str
    evaluation: list[str] = _ruled(_NOT_EMPTY)
    carve: CarveConfig
    rows: dict[str, int] = field(metadata={"identity": False})
    metrics: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "rule": Rule(
                lambda x: len(set(x.values())) <= 1 and set(x.values()) <= {"max", "min", AS_METRIC},
                "one metric or more by name, or each with max or each with min: their mean is the score",
            )
        },
    )
    path: Optional[str] = None
    config: Optional[str] = None
    revision: Optional[str] = None
    commit: Optional[str] = field(default=None, metadata={"identity": False, "rule": _COMMIT})
    files: Optional[str] = field(default=None, metadata={"identity": False, "rule": _FILES})
    drop_unanswered: Optional[bool] = None
    generator: Optional[str] = None
    template: Optional[str] = None
    verbaliser: Optional[list[str]] = None
    inputs: Optional[list[str]] = None
    cut: Optional[list[str]] = None
    phrases: Optional[dict[str, dict[str, str]]] = None
    choices: Optional[list[str]] = None
    spans: Optional[list[SpanConfig]] = None
    group: Optional[list[str]] = None
    group_size: Optional[int] = field(default=None, metadata={"rule": _COUNT})
    candidates: Optional[str] = None
    answers: Optional[str] = None
    placeholder: Optional[str] = None
    generation: Optional[GenerationConfig] = None
    writing: Optional[WritingConfig] = None
    columns: Optional[dict[str, str]] = None
    train_config: Optional[str] = None
    train_columns: Optional[dict[str, str]] = None
    format: Optional[str] = field(default=None, metadata={"rule": one_of("csv", "jsonl", "parquet")})
    train_file: Optional[str] = _sink(None)
    validation_file: Optional[str] = _sink(None)
    separator: Optional[str] = None
    encoding: Optional[str] = None
    drop_unlabelled: Optional[bool] = None
    parts: Optional[list[Any]] = field(default=None, metadata={"items": lambda: DatasetConfig})
    mixing: Optional[str] = field(default=None, metadata={"rule": one_of("examples", "temperature")})
    temperature: Optional[float] = field(default=None, metadata={"rule": between(0, 1e3, above=True)})
    max_length: Optional[int] = field(default=None, metadata={"identity": False, "rule": between(4, 1e6)})
    suite: Optional[str] = _words()
    title: Optional[str] = _words()


@dataclass(kw_only=True)
class RecipeConfig:
    """How it is trained, whatever the method and the machine."""

    optimizer: dict[str, Any]
    weight_decay: float = _ruled(between(0, 10))
    schedule: str = _ruled(one_of("linear", "cosine", "constant"))
    warmup_ratio: float = _ruled(between(0, 1))
    gradient_clip: Optional[float] = _ruled(between(0, 1e6, above=True))
    batch_size: int = _ruled(_COUNT)
    max_length: int = _ruled(between(4, 1e6))
    epochs: int = _ruled(_COUNT)
    max_steps: Optional[int] = _ruled(_COUNT)
    train_samples: Optional[int] = _ruled(_COUNT)
    eval_samples: Optional[int] = _ruled(_COUNT)
    shots: Optional[int] = field(default=None, metadata={"rule": _COUNT})
    shots_seed: Optional[int] = field(default=None, metadata={"rule": between(0, 2**31)})
    eval_steps: Optional[int] = _ruled(_COUNT)
    selection: str = _ruled(one_of("best_on_selection", "best_on_validation", "last"))


@dataclass(kw_only=True)
class HardwareConfig:
    """The machine. Nothing here changes the mathematics, except `precision`."""

    name: str
    accelerator: str = _ruled(one_of("cpu", "gpu", "auto"))
    devices: int = _ruled(between(1, 1024))
    strategy: str = _ruled(one_of("auto", "ddp", "fsdp"))
    precision: str = _ruled(one_of("32-true", "bf16-mixed"))
    micro_batch_size: Optional[int] = _ruled(_COUNT)
    eval_batch_size: int = _ruled(_COUNT)
    threads: Optional[int] = _ruled(between(1, 4096))
    workers: int = _ruled(between(0, 256))
    compile: bool
    gradient_checkpointing: Optional[bool]


@dataclass(kw_only=True)
class ExpectedConfig:
    """What a paper printed for this run: a fraction, its spread, and how far off still counts as the same."""

    metric: str
    value: float
    std: Optional[float]
    tolerance: float = _ruled(between(0, 1))
    source: str


@dataclass(kw_only=True)
class RunConfig:
    """One run, whole. `identity` is the part that decides its result."""

    model: ModelConfig
    method: MethodConfig
    dataset: DatasetConfig
    recipe: RecipeConfig
    hardware: HardwareConfig
    seed: int = _ruled(between(0, 2**32 - 1))
    formulation: str = _ruled(one_of("auto", "head", "verbaliser", "text"))
    #: Benchmarks that the model is asked before and after tuning, by name.
    forgetting: Optional[dict[str, BenchmarkConfig]] = None
    experiment: Optional[str] = field(default=None, metadata={"identity": False})
    expected: Optional[ExpectedConfig] = field(default=None, metadata={"identity": False})
    logger: dict[str, Any] = _sink()
    results_dir: str = _sink()
    data_root: Optional[str] = _sink()
    model_root: Optional[str] = _sink()
    #: The record of a finished run whose weights the model starts from; their contents are part of the key.
    start_from: Optional[str] = _sink(None)
    #: What BERTScore compares texts with; its contents are part of the key, not where it lies.
    bertscore_model: Optional[str] = _sink(None)
    bertscore_layer: Optional[int] = field(default=None, metadata={"rule": between(1, 1000)})
    overwrite: bool = _sink()
    save_adapters: bool = _sink()
    checkpoint_every_s: Optional[float] = _sink(rule=between(0, 1e9))
    #: Whether inference speed is measured, on how many examples at the most, and for how many seconds.
    measure: bool = _sink()
    measure_examples: int = _sink(rule=_COUNT)
    measure_s: float = _sink(rule=between(0, 1e6, above=True))
    grace_s: float = _sink(rule=between(0, 1e6))
    timeout_s: Optional[float] = _sink(rule=between(0, 1e9, above=True))
    retry: int = _sink(rule=between(0, 1000))
    fail_fast: bool = _sink()
    sweep: Optional[str] = _sink(None)
    changed: list[str] = _sink(default_factory=list)
    #: Of the whole command line: which runs it means, and whether they are only shown.
    zip: list[Any] = _sink(default_factory=list)
    exclude: list[str] = _sink(default_factory=list)
    dry_run: bool = _sink(False)
    #: Trials a method had to find its own hyper-parameters. They are its identity: a row of tuned runs is one row.
    tune: Optional[int] = field(default=None, metadata={"rule": between(1, 10_000)})
