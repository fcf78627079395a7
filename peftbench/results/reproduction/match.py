"""Which records are runs of a published row, what of them can be judged, and the verdict."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peftbench.config import experiments, loading
from peftbench.config.expected import CHECKPOINT, ExpectedConfig
from peftbench.config.identity import identity
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.reproduction import judge
from peftbench.results.reproduction.judge import Verdict

#: What may differ between a row and a run of it: the seed, and the machine, which is shown.
_FREE = ("seed", "hardware")
_STARTED = re.compile(r"starts from a run of .* \(([0-9a-f]{20})\)$")
_NO_FIGURE = "the paper prints no figure of this data set alone"

#: An experiment and a data set to its run as its file has it.
Official = Callable[[str, str], RunConfig]


@dataclass(frozen=True)
class JudgedRow:
    """A published row beside the runs of it that are recorded.

    Attributes:
        departures: sentences of the experiment's file, and what the runs do differently.
        keys: of the runs that were judged.
    """

    experiment: str
    dataset: str
    expected: ExpectedConfig | None
    verdict: Verdict
    departures: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def rows(records: Iterable[RunRecord], official: Official = experiments.official) -> list[JudgedRow]:
    """A row for every experiment and data set that a folder's records were made for, by name.

    Args:
        records: completed ones, of the whole folder: a run's start is looked for among them.
    """
    records = list(records)
    named = {(r.config["experiment"], r.config["dataset"]["name"]) for r in records if r.config.get("experiment")}
    judged = []
    for experiment, dataset in sorted(named):
        try:
            judged.append(row(records, official(experiment, dataset), official(experiment, dataset)))
        except ConfigError:  # Another folder's experiment, or an older version's.
            continue
    return judged


def row(records: Sequence[RunRecord], official: RunConfig, composed: RunConfig) -> JudgedRow:
    """The verdict on a published row.

    Args:
        official: the run as the experiment's file has it.
        composed: the run that is judged: what a command line made of it.
    """
    expected = official.expected
    runs, others = _runs(records, composed)
    name, dataset = official.experiment or "", official.dataset.name
    if expected is None:
        return JudgedRow(name, dataset, None, Verdict("no verdict", len(runs), reasons=[_NO_FIGURE]))
    reasons = [] if runs else others
    values: list[float] = []
    if runs:
        reasons = [
            *_changes(official, composed),
            *_protocol(runs, expected, official),
            *_start(runs, records, expected),
        ]
        scores = [_score(run, expected) for run in runs]
        values = [score for score in scores if score is not None]
        if len(values) < len(scores) and expected.metric is not None and expected.split is not None:
            reasons.append(f"{len(scores) - len(values)} records have no {expected.metric} on {expected.split}")
    allowed = judge.floor(expected, _row_count(official, expected))
    verdict = judge.judge(expected, values, floor=allowed, reasons=reasons)
    departures = [*expected.departures, *_machine(runs)]
    if expected.exact is not None and not reasons and _same_processor(runs, expected.exact):
        if _bit_equal(runs, values, expected.exact):
            verdict = Verdict("reproduced", len(runs), verdict.value, verdict.interval, exact=True)
        else:
            departures.append("The same kind of processor gave other bits: versions or threads differ.")
    return JudgedRow(name, dataset, expected, verdict, departures, [run.key for run in runs])


def _same_processor(runs: Sequence[RunRecord], exact: dict[str, Any]) -> bool:
    return {run.environment.get("cpu") for run in runs} == {exact["cpu"]}


def _bit_equal(runs: Sequence[RunRecord], values: Sequence[float], exact: dict[str, Any]) -> bool:
    """True if every seed that the record has, and no other, scored the same."""
    scored = {run.config["seed"]: value for run, value in zip(runs, values, strict=True)}
    return scored == dict(zip(exact["seeds"], exact["scores"], strict=True))


def _runs(records: Iterable[RunRecord], composed: RunConfig) -> tuple[list[RunRecord], list[str]]:
    """One run a seed of a configuration, all made alike, and why others of its name aren't among them."""
    alike: dict[Any, dict[int, RunRecord]] = defaultdict(dict)
    others: list[str] = []
    wanted = _deciding(composed)
    for record in records:
        config = record.config
        if any(config[part]["name"] != getattr(composed, part).name for part in ("dataset", "method")):
            continue
        mine = config.get("experiment") == composed.experiment
        differing = _differences(wanted, record)
        if differing:
            others += [f"a run differs in {differing}"] if mine else []
        elif record.key != key_of(record):
            others.append(f"{record.key}: its key isn't that of its configuration, data and model")
        else:
            hardware = sorted((name, value) for name, value in config["hardware"].items() if value is not None)
            made = (str(hardware), record.protocol, start_of(record))
            alike[made].setdefault(config["seed"], record)
    started = composed.start is not None or composed.start_from is not None
    # Runs that start where they should come before others, however many.
    most = max(alike.values(), key=lambda runs: (_started(runs) == started, len(runs)), default={})
    return [most[seed] for seed in sorted(most)], list(dict.fromkeys(others))


def _started(runs: dict[int, RunRecord]) -> bool:
    return any(start_of(run) is not None for run in runs.values())


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The values that decide a run's result, flat, but for those that may differ."""
    parts = {name: part for name, part in identity(config).items() if name not in _FREE}
    return flat(parts)


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Nested values by keys such as `recipe.epochs`."""
    return dict(_flat(value, ""))


def _flat(value: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _differences(wanted: dict[str, Any], record: RunRecord) -> str:
    """The keys in which a record's run is another one, with its values."""
    try:
        actual = _deciding(loading.from_description(record.config))
    except ConfigError as error:
        return str(error)
    return _differing(wanted, actual)


def _differing(wanted: dict[str, Any], actual: dict[str, Any]) -> str:
    # What data without named labels say for themselves isn't a difference.
    keys = sorted(key for key in wanted.keys() | actual.keys() if wanted.get(key) != actual.get(key))
    keys = [key for key in keys if not (key == "dataset.labels" and key not in wanted)]
    return ", ".join(f"{key}={actual.get(key)}" for key in keys)


def _changes(official: RunConfig, composed: RunConfig) -> list[str]:
    """The differences that a command line made from the row, in a sentence."""
    differing = _differing(_deciding(official), _deciding(composed))
    return [f"the runs differ from the row in {differing}"] if differing else []


def _protocol(runs: Sequence[RunRecord], expected: ExpectedConfig, official: RunConfig) -> list[str]:
    """Sentences on where base, selection or data aren't the paper's."""
    reasons = []
    base = {run.config["model"].get("checkpoint") or run.config["model"]["name"] for run in runs}
    if expected.base is not None and base != {expected.base}:
        reasons.append(f"another base: {', '.join(sorted(map(str, base)))}; the paper's is {expected.base}")
    rule = official.recipe.selection
    if expected.selection is not None and rule != expected.selection:
        reasons.append(f"another selection rule: {rule}; the paper's is {expected.selection}")
    # Of a record of ours, the data are those of the record.
    published = (expected.exact or {}).get("data")
    others = [run for run in runs if published is None or run.environment.get("data_fingerprint") != published]
    notes = {note for run in others for note in run.footnotes if " rows, the official one " in note}
    return [*reasons, *sorted(notes)]


def start_of(record: RunRecord) -> str | None:
    """The key of the run whose weights a run started from; older records say it in a footnote alone."""
    start = record.environment.get("start")
    if start is not None:
        return str(start)
    return next((match[1] for note in record.footnotes if (match := _STARTED.search(note))), None)


def _start(runs: Sequence[RunRecord], records: Iterable[RunRecord], expected: ExpectedConfig) -> list[str]:
    """The reasons why the runs don't start where the paper's do."""
    if expected.start is None:
        return []
    by_key = {record.key: record for record in records}
    begun = start_of(runs[0])
    experiment, _, dataset = expected.start.partition(" ")
    wanted = f"experiment={experiment} dataset={dataset}"
    if expected.start == CHECKPOINT:
        return [] if begun is None else [f"the paper starts at the checkpoint, these runs from run {begun}"]
    if begun is None:
        return [f"the paper starts from its run of {wanted}, these runs at the checkpoint"]
    before = by_key.get(begun)
    if begun == (expected.exact or {}).get("start"):
        return []
    if before is None:
        return [f"the start, run {begun}, isn't recorded here; the paper's is of {wanted}"]
    if (before.config.get("experiment"), before.config["dataset"]["name"]) != (experiment, dataset):
        return [f"the start, run {begun}, isn't of {wanted}"]
    return []


def _score(record: RunRecord, expected: ExpectedConfig) -> float | None:
    """The figure of a record that compares with the printed one; `a+b` in metric or split is a mean."""
    if expected.metric is None or expected.split is None:
        return record.score
    figures: list[Any] = [
        ((record.metrics.get(split) or {}).get("values") or {}).get(metric)
        for split in expected.split.split("+")
        for metric in expected.metric.split("+")
    ]
    return None if None in figures else statistics.fmean(figures)


def _row_count(official: RunConfig, expected: ExpectedConfig) -> int | None:
    """Rows that the printed figure is of."""
    if expected.split is None:
        return None
    counts = [official.dataset.rows.get(split) for split in expected.split.split("+")]
    limit = official.recipe.eval_samples
    counted = [min(count, limit or count) for count in counts if count is not None]
    return sum(counted) if len(counted) == len(counts) else None


def _machine(runs: Sequence[RunRecord]) -> list[str]:
    """Sentences on what of the machine may move a score."""
    precision = {run.config["hardware"]["precision"] for run in runs} - {"32-true"}
    return [f"Made in {name} precision." for name in sorted(precision)]
