"""Our own published records as experiments, so that anyone can judge us. The expectation lives in the experiment's
file, which ships with the package; the records don't.

    python -m peftbench.results.reproduction.own      in a checkout: writes conf/experiment/peftbench/*.yaml
"""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peftbench.config import compose, loading, paths
from peftbench.config.claims import as_line, nested
from peftbench.config.expected import CHECKPOINT
from peftbench.config.identity import identity
from peftbench.config.types import RunConfig
from peftbench.results.folders import Folder
from peftbench.results.key import protocol
from peftbench.results.records import RunRecord
from peftbench.results.report.load import load
from peftbench.results.reproduction.match import flat, start_of

PAPER = "peftbench"
PUBLISHED = paths.PACKAGE.parent / "results" / "published"
#: Of a study of very many rows, every method once or at several sizes: a part.
_PART = {"all_methods": ("lora",), "equal_parameters": ("lora",)}
#: Groups whose file a run chooses.
_CHOSEN = ("model", "method", "dataset", "hardware")

#: Runs that differ in the seed alone.
Runs = list[RunRecord]


def studies() -> list[str]:
    """The studies under results/published that have records; not those of findings, which `finding=` makes again."""
    folders = sorted(folder.parent for folder in PUBLISHED.glob("*/records"))
    return [folder.name for folder in folders if not (folder / Folder.FINDINGS).is_dir()]


def experiments(study: str) -> Iterator[tuple[str, str]]:
    """The experiments of a study: name, and text of the file."""
    records = [r for r in load(PUBLISHED / study).completed if r.score is not None and _can_be_run(r)]
    part = _PART.get(study)
    by_name = _named(study, [r for r in records if part is None or r.config["method"]["name"] in part])
    homes = {
        run.key: (name, dataset)
        for name, by_dataset in by_name.items()
        for dataset, runs in by_dataset.items()
        for run in runs
    }
    for name, by_dataset in sorted(by_name.items()):
        yield f"{PAPER}/{name}", _text(study, name, by_dataset, homes)


def write() -> list[Path]:
    """Write the files of all studies; returns their paths."""
    written = []
    for study in studies():
        for name, text in experiments(study):
            target = paths.CONF / "experiment" / f"{name}.yaml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return written


def _can_be_run(record: RunRecord) -> bool:
    """True if files of conf/ name all of a run: no mixture, and no other data by the name of a data set."""
    if not all(record.config[group]["name"] in paths.choices(group) for group in _CHOSEN):
        return False
    data = record.config["dataset"]
    return bool(loading.read_yaml(paths.choice_files("dataset")[data["name"]]).get("path") == data.get("path"))


def _named(study: str, records: Sequence[RunRecord]) -> dict[str, dict[str, Runs]]:
    """The runs that differ in the seed alone, by experiment and data set."""
    alike: dict[tuple[str, ...], dict[str, Runs]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: (record.config["dataset"]["name"], record.key)):
        config = record.config
        formulation = config["formulation"]
        kind = (
            config["method"]["name"],
            *([config["model"]["name"]] if config["model"]["name"] != "minilm" else []),
            *([formulation] if formulation != "auto" else []),
        )
        alike[config["dataset"]["name"], *kind][_setting(record)].append(record)
    by_name: dict[str, dict[str, Runs]] = defaultdict(dict)
    for (dataset, *named), settings in alike.items():
        for number, runs in enumerate(settings.values(), 1):
            suffix = [] if number == 1 else [str(number)]
            by_name["_".join([study, *named, *suffix])][dataset] = runs
    return dict(by_name)


def _setting(record: RunRecord) -> str:
    config = identity(loading.from_description(record.config))
    started = sorted((record.environment.get("inputs") or {}).items())
    return repr(sorted(flat({key: value for key, value in config.items() if key != "seed"}).items())) + repr(started)


def _text(study: str, name: str, by_dataset: dict[str, Runs], homes: dict[str, tuple[str, str]]) -> str:
    first = next(iter(by_dataset.values()))[0].config
    chosen = {group: first[group]["name"] for group in _CHOSEN}
    protocols, rows = {}, {}
    for dataset, runs in by_dataset.items():
        protocols[dataset] = nested(_differences(runs[0], {**chosen, "dataset": dataset}))
        rows[dataset] = _row(study, runs)
        begun = start_of(runs[0])
        if begun is not None and begun in homes:
            experiment, before = homes[begun]
            protocols[dataset]["start_from"] = {"experiment": f"{PAPER}/{experiment}", "dataset": before}
            rows[dataset]["start"] = f"{PAPER}/{experiment} {before}"
    lines = [
        "# @package _global_",
        f"# {chosen['method']} on {chosen['model']} as results/published/{study} has it.",
        f"#   python -m peftbench reproduce experiment={PAPER}/{name} dataset={next(iter(by_dataset))}",
        "# Made by python -m peftbench.results.reproduction.own from the records there.",
        "defaults:",
        *(f"  - override /{group}: {choice}" for group, choice in chosen.items()),
        "protocol:",
        *(f"  {dataset}: {as_line(part)}" for dataset, part in protocols.items()),
        "expected:",
        *(f"  {dataset}: {as_line(row)}" for dataset, row in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def _differences(record: RunRecord, chosen: dict[str, str]) -> dict[str, Any]:
    """The keys in which a record's run isn't what its files compose."""
    composed = flat(identity(_composed(tuple(f"{group}={choice}" for group, choice in chosen.items()))))
    actual = flat(identity(loading.from_description(record.config)))
    keys = sorted(key for key in composed.keys() | actual.keys() if composed.get(key) != actual.get(key))
    return {key: actual.get(key) for key in keys if key != "seed"}


def _composed(words: tuple[str, ...]) -> RunConfig:
    return compose.one(list(words))


def _row(study: str, runs: Runs) -> dict[str, Any]:
    """The row that runs which differ in the seed alone are expected to reproduce."""
    runs = sorted(runs, key=lambda run: run.config["seed"])
    config, scores = runs[0].config, [run.score or 0.0 for run in runs]
    comparable = runs[0].protocol == protocol(config)
    departures = [] if comparable else ["Scores of this formulation mean something else today."]
    inputs = sorted(runs[0].environment.get("inputs") or {})
    departures += [f"method.inputs.{name} names a record that is made before." for name in inputs]
    row = {
        "value": statistics.fmean(scores),
        "metric": "+".join(config["dataset"]["metrics"]) if comparable else None,
        "split": config["dataset"]["evaluation"][0],
        "source": f"results/published/{study}",
        "statistic": "mean",
        "seeds": len(runs),
        **({"spread": statistics.stdev(scores), "spread_kind": "std"} if len(runs) > 1 else {}),
        "selection": config["recipe"]["selection"],
        "base": config["model"].get("checkpoint") or config["model"]["name"],
        "start": CHECKPOINT,
        "exact": {
            "cpu": runs[0].environment["cpu"],
            "data": runs[0].environment["data_fingerprint"],
            **({} if start_of(runs[0]) is None else {"start": start_of(runs[0])}),
            "seeds": [run.config["seed"] for run in runs],
            "scores": scores,
        },
    }
    return {**row, "departures": departures} if departures else row


if __name__ == "__main__":
    print(f"{len(write())} files")
