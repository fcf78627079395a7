"""Names of a leaderboard's rows and columns: what runs are, and what sets them apart from others of the same name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from peftbench.config import formulations
from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.identity import words
from peftbench.config.types import MethodConfig, ModelConfig
from peftbench.results.records import RunRecord
from peftbench.results.report.flattening import flat
from peftbench.results.report.load import is_tunable, settings

N = TypeVar("N")

_KINDS = {"method": MethodConfig, "model": ModelConfig, "dataset": DatasetConfig}
#: By part of the configuration: what only describes it, and its name, by which it's grouped.
_LEFT_OUT = {group: {"name", *words(kind)} for group, kind in _KINDS.items()}


def row_names(
    records: Iterable[RunRecord], studies: Mapping[int, str] | None = None
) -> dict[int, tuple[str, str, str]]:
    """The method, model and variant of every record, by the record's `id` (two records may have one key). The variant
    names what the command line changed of method and model, and the settings in which rows differ.

    Args:
        studies: by a record's `id` the study that it is of, where studies stay apart: the variant names it, and the
            settings in which rows of one study differ.
    """
    everything, studies = list(records), studies or {}
    by_key = {record.key: record for record in everything}
    # Of all that say the same of themselves the first is named, and stands for them.
    descriptions = [(*_described(record), studies.get(id(record))) for record in everything]
    firsts = _firsts(everything, descriptions)
    records = list(firsts.values())
    of = [studies.get(id(record)) for record in records]
    by_dataset = _by_dataset(records)
    started_from = {_fingerprint(record, "model") for record in records}
    short = _shortened(started_from.union(*((r.environment.get("inputs") or {}).values() for r in records)))

    def parts_of(record: RunRecord) -> dict[str, str]:
        method, model = _deciding(record, "method"), _deciding(record, "model")
        set_by_data = {key.removeprefix("method.") for key in by_dataset[record.config.get("experiment")]}
        hidden = _tuned(record) | set_by_data
        method = {key: value for key, value in method.items() if key not in hidden}
        inputs = {name: short[value] for name, value in (record.environment.get("inputs") or {}).items()}
        started = {"model_fingerprint": short[_fingerprint(_first(record, by_key), "model")]}
        return {**method, **_experiment(record), **{f"model.{k}": v for k, v in model.items()}, **started, **inputs}

    groups = [(record.config["method"]["name"], record.config["model"]["name"]) for record in records]
    by_model = _differences([parts_of(record) for record in records], list(zip(groups, of, strict=True)))
    common = _settings(records, of)
    # Each formulation and data set counts its protocols by itself.
    formulated = [(formulations.described(record.config), record.config["dataset"]["name"]) for record in records]
    versions = _differences(
        [{"protocol": str(record.protocol)} for record in records], list(zip(formulated, of, strict=True))
    )
    parts = [
        {k: v for k, v in {"study": str(study), **_changed(record), **mine, **others, **version}.items() if v != "None"}
        for record, study, mine, others, version in zip(records, of, by_model, common, versions, strict=True)
    ]
    variants = [", ".join(f"{k.replace('hardware.name', 'hardware')}={v}" for k, v in part.items()) for part in parts]
    names = _unlike(list(zip(groups, variants, strict=True)), parts)
    named = {what: (*group, variant) for what, (group, variant) in zip(firsts, names, strict=True)}
    return {id(record): named[what] for record, what in zip(everything, descriptions, strict=True)}


def within_study(variant: str, study: str) -> str:
    """A variant as it is named among the rows of its study; "" for `study` where studies don't stay apart."""
    return variant.removeprefix(f"study={study}").removeprefix(", ") if study else variant


def _firsts(records: list[RunRecord], descriptions: list[Any]) -> dict[Any, RunRecord]:
    """The first record of each description, by that."""
    firsts: dict[Any, RunRecord] = {}
    for record, what in zip(records, descriptions, strict=True):
        firsts.setdefault(what, record)
    return firsts


def _described(record: RunRecord) -> tuple[Any, ...]:
    """The parts that a row's name is made of, by their identity: two are equal only where these are, and perhaps not
    even then. Those of records that were read are shared."""
    environment, config = record.environment, record.config
    decides = (
        *{**config, "seed": None}.values(),
        environment.get("model_fingerprint"),
        environment.get("inputs"),
        environment.get("start") if config.get("start") is not None else None,
        record.changed,
        record.protocol,
    )
    return (*config, *map(id, decides))


def _settings(records: list[RunRecord], of: list[str | None]) -> list[dict[str, str]]:
    """The settings in which rows of a study differ, for every record. A choice of `hardware=` stands by its name; its
    parts are named where records of that name differ in them."""
    by_dataset = _by_dataset(records)
    described = [
        {
            key: value
            for key, value in settings(record).items()
            if key not in by_dataset[record.config.get("experiment")] | _tuned(record)
        }
        for record in records
    ]
    budgets: dict[str | None, set[str]] = defaultdict(set)
    for record, values, study in zip(records, described, of, strict=True):
        budgets[study] |= {values.get("tune", "None")} if is_tunable(record) else set()
    for record, values, study in zip(records, described, of, strict=True):
        if not is_tunable(record) and len(budgets[study]) == 1:
            values["tune"] = next(iter(budgets[study]))
    machine = [{k for k in values if k.startswith("hardware.") and k != "hardware.name"} for values in described]
    rest = [{k: values[k] for k in values.keys() - parts} for values, parts in zip(described, machine, strict=True)]
    parts = [{k: values[k] for k in parts} for values, parts in zip(described, machine, strict=True)]
    overall = _differences(rest, of)
    machines = [record.config["hardware"]["name"] for record in records]
    within = _differences(parts, list(zip(machines, of, strict=True)))
    return [dict(sorted({**one, **other}.items())) for one, other in zip(overall, within, strict=True)]


def _changed(record: RunRecord) -> dict[str, str]:
    """The keys that the command line changed, with their values: `lora` with another rank must not pass for the file's
    own, even where no other row differs from it."""
    changed = {key.removeprefix("method."): value for key, value in values_set(record).items()}
    return {key: value for key, value in changed.items() if key not in _tuned(record)}


def values_set(record: RunRecord) -> dict[str, str]:
    """The keys that the command line set of method and model, with the values that the run had: `3e-3` and `0.003` are
    one. A value stands as it was written where the configuration has none under that key."""
    had = {f"{group}.{key}": text for group in ("method", "model") for key, text in flat(record.config[group]).items()}
    pairs = (change.lstrip("+~").partition("=") for change in record.changed)
    return {key: value if had.get(key, "None") == "None" else had[key] for key, _, value in pairs}


def _tuned(record: RunRecord) -> set[str]:
    """The keys that trials chose, and those that an experiment sets by the data set. They may differ from one data set
    to the next, and the row is the same, "as tuned"."""
    by_dataset = record.config.get("by_dataset") or ()
    keys = {key.removeprefix("method.") for key in by_dataset if key.startswith("method.")}
    if record.config.get("tune"):
        space = record.config.get("tune_space") or {}
        keys |= {*(record.config["method"].get("search") or ()), *space, *(k.removeprefix("method.") for k in space)}
    return keys


def _by_dataset(records: Iterable[RunRecord]) -> defaultdict[str | None, set[str]]:
    """The keys that an experiment sets for some data set, by experiment: they may differ within its row."""
    keys: defaultdict[str | None, set[str]] = defaultdict(set)
    for record in records:
        keys[record.config.get("experiment")].update(record.config.get("by_dataset") or ())
    return keys


def _first(record: RunRecord, by_key: Mapping[str, RunRecord]) -> RunRecord:
    """The run that a data set's run goes on from as its experiment says, or else itself: they are of one base."""
    if record.config.get("start") is None:
        return record
    return by_key.get(str(record.environment.get("start")), record)


def _experiment(record: RunRecord) -> dict[str, str]:
    """The experiment that sets a record's hyper-parameters by the data set: its runs are a row of their own."""
    return {"experiment": str(record.config["experiment"])} if record.config.get("by_dataset") else {}


def column_names(records: Iterable[RunRecord]) -> dict[int, str]:
    """The data set's name of every record, by the record's `id`, with what differs where one name stands for different
    data. Averages go by these names: nothing else decides what is the same data."""
    everything = list(records)
    descriptions = [(id(record.config["dataset"]), _fingerprint(record, "data")) for record in everything]
    firsts = _firsts(everything, descriptions)
    records = list(firsts.values())
    short = _shortened({_fingerprint(record, "data") for record in records})

    def parts_of(record: RunRecord) -> dict[str, str]:
        return {**_deciding(record, "dataset"), "data": short[_fingerprint(record, "data")]}

    groups = [record.config["dataset"]["name"] for record in records]
    parts = _differences([parts_of(record) for record in records], groups)
    written = [f" ({', '.join(f'{k}={v}' for k, v in differing.items())})" if differing else "" for differing in parts]
    titles = [(group + suffix, "") for group, suffix in zip(groups, written, strict=True)]
    names = _unlike(titles, list(zip(groups, parts, strict=True)))
    named = {what: column + number for what, (column, number) in zip(firsts, names, strict=True)}
    return {id(record): named[what] for record, what in zip(everything, descriptions, strict=True)}


def _fingerprint(record: RunRecord, part: str) -> str:
    return str(record.environment.get(f"{part}_fingerprint"))


def _shortened(fingerprints: set[str]) -> dict[str, str]:
    """Each fingerprint's first eight digits, or as many as tell all fingerprints apart."""
    length = 8
    while len({fingerprint[:length] for fingerprint in fingerprints}) < len(fingerprints):
        length += 1
    return {fingerprint: fingerprint[:length] for fingerprint in fingerprints}


def _unlike(names: list[tuple[N, str]], parts: list[Any]) -> list[tuple[N, str]]:
    """The names, with a number added to the second half of those that look alike but are made of different parts."""
    alike: dict[tuple[N, str], list[Any]] = defaultdict(list)
    unlike = []
    for name, made_of in zip(names, parts, strict=True):
        if made_of not in alike[name]:
            alike[name].append(made_of)
        number = alike[name].index(made_of) + 1
        unlike.append(name if number == 1 else (name[0], f"{name[1]} [{number}]".strip()))
    return unlike


def _deciding(record: RunRecord, group: str) -> dict[str, str]:
    """A part of a record's configuration, flat, without the fields that only describe."""
    return flat({k: v for k, v in record.config[group].items() if k not in _LEFT_OUT[group]})


def _differences(described: list[dict[str, str]], groups: list[Any]) -> list[dict[str, str]]:
    """The entries of every description that differ within its group, sorted by key."""
    members: dict[Any, list[dict[str, str]]] = defaultdict(list)
    for values, group in zip(described, groups, strict=True):
        members[group].append(values)
    differing = {group: _differing(descriptions) for group, descriptions in members.items()}
    return [
        {key: values[key] for key in differing[group] if key in values}
        for values, group in zip(described, groups, strict=True)
    ]


def _differing(descriptions: list[dict[str, str]]) -> list[str]:
    """The keys whose values aren't the same in all descriptions, sorted."""
    first = descriptions[0]
    # Most runs of a sweep are described alike: to compare whole dictionaries is quicker than each of their keys.
    distinct = [first, *(values for values in descriptions if values != first)]
    return sorted(key for key in set().union(*distinct) if len({values.get(key, "None") for values in distinct}) > 1)
