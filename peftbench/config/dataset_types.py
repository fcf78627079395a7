"""The dataclass of a data set: where its examples are, what its columns mean, how it is split and scored."""

import re
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Optional

from peftbench.config.dataset_parts import CarveConfig, GenerationConfig, SpanConfig, WritingConfig
from peftbench.config.fields import COUNT, NOT_EMPTY, descriptive, ruled, sink
from peftbench.config.rules import Rule, between, one_of

#: In the place of max or min: what the metric itself says.
AS_METRIC = "as the metric"

_COMMIT = Rule(lambda x: re.fullmatch("[0-9a-f]{40}", x) is not None, "a whole commit id, 40 hex digits")
_SHOTS = Rule(lambda x: len(set(x)) == len(x) > 0 and all(0 <= k <= 100 for k in x), "different numbers from 0 to 100")
_FILES = Rule(lambda x: "{split}" in x and ".." not in x, "a pattern with {split} in it, without '..'")


@dataclass(kw_only=True)
class DatasetConfig:
    """A data set: where its examples are (hub path, generator or files), what their columns mean, how they are split
    and scored.

    Attributes:
        task: the task type: classification, regression, multiple_choice, span_pair, multi_row, generation, mixture.
        text: columns that hold text.
        label: the column that holds the label.
        labels: the labels' names by index; null: as found in the data.
        train: the split that is trained on.
        evaluation: splits that are evaluated; the run's score is that of the first.
        carve: the slice of train that steps are selected on.
        rows: rows of each split.
        metrics: metrics by name, with the direction that is better; their mean is the score.
        also: further metrics by name, which are recorded beside the score and aren't part of it.
        path: the data set's name on the hub.
        config: the hub's configuration of it.
        revision: commit, branch or tag on the hub; null: `commit`, or else main, as it is when it is first asked for.
        commit: what `revision: null` stands for. It says where the contents are, which identify a run.
        files: where the hub has a split's files, with `{config}` and `{split}`; null: `{config}/{split}-*.parquet`.
        drop_unanswered: true leaves rows without a right answer out.
        generator: the function that makes the examples, by dotted path.
        template: for label words: the text around `{answer}`.
        templates: for a mixture that is written as text: several texts around `{answer}`, one of which is drawn by row;
            null: `template`, or that of `writing`. Nothing else reads them, and no other run's key has them.
        verbaliser: for label words: the word of every label.
        inputs: for a head: the one text or the pair that the model is given, as templates; null: the text columns.
        cut: columns that may be cut where an example is too long; null: all, the longest first.
        phrases: by column, what stands in the text for each of its values.
        choices: columns that hold a choice each, or the one that holds the list of them.
        spans: the marked words of a span pair.
        group: columns whose equal values mark rows that stay on one side of every division, and that are scored
            together where the task type scores several rows as one.
        slices: columns by whose values the score is split; null: none.
        group_size: rows that are scored together, one after another, in the evaluation splits.
        candidates: the column that lists what can stand in the place of `placeholder`; every candidate is an example.
        answers: the column of the right text, of the list of right texts, or of the right candidates.
        placeholder: the text that a candidate is put in the place of.
        generation: how answers are written, where they are texts.
        writing: how answers are written, where they are numbers or names.
        columns: what the data calls a column, by its name here, where that differs.
        train_config: the hub configuration whose train split is used, where this one has none.
        train_columns: the same as `columns`, for `train_config`.
        format: the format of the user's own files.
        file: the user's own file, of which `holdout` is evaluated and the rest trained on.
        holdout: the share of `file` that is evaluated, of every class alike; null: 0.2.
        split_seed: what `file` is divided by; null: 0.
        train_file: the user's own file to train on.
        validation_file: the user's own file to evaluate on.
        separator: what stands between a CSV file's columns; null: a comma.
        encoding: the encoding of the user's own files; null is UTF-8.
        drop_unlabelled: true leaves rows without a label out; otherwise they are refused.
        parts: the data sets of a mixture, by name (once loaded, `DatasetConfig`s).
        mixing: how a mixture's parts are drawn from: each example equally often, or by `temperature`.
        temperature: T; a part of n examples is drawn from with weight n^(1/T) (`MixedBatches`).
        cap: K; no part counts for more than K examples when a mixture is drawn from; null: no limit.
        template_seed: of a mixture that is written as text, what templates and shots are drawn by; null: 0.
        chat: of such a mixture, whether questions are put in the tokenizer's chat format; null: where it has one.
        held_out: of such a mixture, data sets that are scored and not trained on, by name (then as `parts`).
        held_out_shots: with how many answered training rows in the prompt they are scored; null: none, [0].
        max_length: tokens that the examples need, where the usual 128 are too few; `recipe.max_length` follows.
        suite: the benchmark that the data set is a part of.
        title: what reports call the data set.
    """

    name: str
    task: str
    text: list[str] = ruled(Rule(lambda x: len(set(x)) == len(x), "a list of different names"))
    label: Optional[str] = None
    labels: Optional[list[str]] = field(
        default=None,
        metadata={"rule": Rule(lambda x: len(set(x)) == len(x) > 1, "a list of two or more different names")},
    )
    train: str
    evaluation: list[str] = ruled(NOT_EMPTY)
    carve: CarveConfig = field(default_factory=CarveConfig, metadata={"anywhere": True})
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
    also: Optional[list[str]] = field(default=None, metadata={"rule": NOT_EMPTY, "anywhere": True})
    path: Optional[str] = None
    config: Optional[str] = None
    revision: Optional[str] = None
    commit: Optional[str] = field(default=None, metadata={"identity": False, "rule": _COMMIT})
    files: Optional[str] = field(default=None, metadata={"identity": False, "rule": _FILES})
    drop_unanswered: Optional[bool] = None
    generator: Optional[str] = None
    template: Optional[str] = None
    templates: Optional[list[str]] = field(
        default=None,
        metadata={"rule": Rule(lambda x: len(set(x)) == len(x) > 0, "a list of one or more different texts")},
    )
    verbaliser: Optional[list[str]] = None
    inputs: Optional[list[str]] = None
    cut: Optional[list[str]] = None
    phrases: Optional[dict[str, dict[str, str]]] = None
    choices: Optional[list[str]] = None
    spans: Optional[list[SpanConfig]] = None
    group: Optional[list[str]] = None
    slices: Optional[list[str]] = field(default=None, metadata={"rule": NOT_EMPTY})
    group_size: Optional[int] = field(default=None, metadata={"rule": COUNT})
    candidates: Optional[str] = None
    answers: Optional[str] = None
    placeholder: Optional[str] = None
    generation: Optional[GenerationConfig] = None
    writing: Optional[WritingConfig] = None
    columns: Optional[dict[str, str]] = None
    train_config: Optional[str] = None
    train_columns: Optional[dict[str, str]] = None
    format: Optional[str] = field(default=None, metadata={"rule": one_of("csv", "jsonl", "parquet")})
    file: Optional[str] = sink(None)
    holdout: Optional[float] = field(default=None, metadata={"rule": between(0, 0.9, above=True)})
    split_seed: Optional[int] = field(default=None, metadata={"rule": between(0, 2**31)})
    train_file: Optional[str] = sink(None)
    validation_file: Optional[str] = sink(None)
    separator: Optional[str] = None
    encoding: Optional[str] = None
    drop_unlabelled: Optional[bool] = None
    parts: Optional[list[Any]] = field(default=None, metadata={"items": lambda: DatasetConfig})
    mixing: Optional[str] = field(default=None, metadata={"rule": one_of("examples", "temperature")})
    temperature: Optional[float] = field(default=None, metadata={"rule": between(0, 1e3, above=True)})
    cap: Optional[int] = field(default=None, metadata={"rule": COUNT})
    template_seed: Optional[int] = field(default=None, metadata={"rule": between(0, 2**31)})
    chat: Optional[bool] = None
    held_out: Optional[list[Any]] = field(default=None, metadata={"items": lambda: DatasetConfig})
    held_out_shots: Optional[list[int]] = field(default=None, metadata={"rule": _SHOTS})
    max_length: Optional[int] = field(default=None, metadata={"identity": False, "rule": between(4, 1e6)})
    suite: Optional[str] = descriptive()
    title: Optional[str] = descriptive()


#: The sections that a data set's file may leave out and the command line may set, as they are then.
USUAL: dict[str, dict[str, Any]] = {
    f.name: asdict(f.default_factory())
    for f in fields(DatasetConfig)
    if f.metadata.get("anywhere") and f.default_factory is not MISSING
}
