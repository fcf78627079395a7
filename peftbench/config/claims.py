"""Published figures (conf/claims/<paper>.csv) and the protocols beside them (<paper>.yaml), from which the files of
conf/experiment are made:

    python -m peftbench.config.claims      in a checkout: writes conf/experiment/<paper>/<name>.yaml
"""

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from peftbench.config import paths
from peftbench.config.loading import read_yaml
from peftbench.errors import ConfigError

#: Papers' names of data sets, as `dataset=` calls them. An experiment's `names` wins: RTE is of GLUE or of SuperGLUE.
DATASETS = {
    "MNLI": "mnli",
    "MNLI-m": "mnli",
    "SST-2": "sst2",
    "SST": "sst2",
    "MRPC": "mrpc",
    "CoLA": "cola",
    "QNLI": "qnli",
    "QQP": "qqp",
    "RTE": "rte",
    "STS-B": "stsb",
    "BoolQ": "boolq",
    "CB": "cb",
    "COPA": "copa",
    "MultiRC": "multirc",
    "ReCoRD": "record",
    "WiC": "wic",
    "WSC": "wsc",
    "E2E": "e2e_nlg",
    "XSum": "xsum",
    "DialogSum": "dialogsum",
    "SAMSum": "samsum",
}
#: Papers' names of metrics, as ours are called; a name that isn't here isn't known.
METRICS = {
    "accuracy": "accuracy",
    "accuracy(m+mm overall)": "accuracy",
    "mcc": "matthews",
    "f1": "f1",
    "pearson": "pearson",
    "spearman": "spearman",
    "corr": "pearson+spearman",
    "mean corr": "pearson+spearman",
    "mean(pearson,spearman)": "pearson+spearman",
    "BLEU": "bleu",
    "rouge1": "rouge1",
    "rouge2": "rouge2",
    "rougeL": "rougeL",
}
#: A metric of all evaluation splits together.
_OVERALL = "accuracy(m+mm overall)"


@dataclass(frozen=True)
class Figure:
    """A printed figure, as text; where it stands, and what it is of."""

    paper: str
    table: str
    model: str
    method: str
    setting: str
    dataset: str
    split: str
    metric: str
    value: str
    spread: str
    parameters: str
    note: str


def papers() -> list[str]:
    """The papers whose figures are here."""
    return sorted(file.stem for file in _folder().glob("*.csv"))


@functools.cache
def figures(paper: str) -> list[Figure]:
    """All figures of a paper, in its order."""
    with (_folder() / f"{paper}.csv").open(encoding="utf-8", newline="") as file:
        return [Figure(paper=paper, **row) for row in csv.DictReader(file)]


def experiments() -> Iterator[tuple[str, str]]:
    """Every experiment that the protocols describe: its name, and the text of its file.

    Raises:
        ConfigError: a protocol names a row that isn't there, or two.
    """
    for file in sorted(_folder().glob("*.yaml")):
        protocol = read_yaml(file)
        if "experiments" in protocol:
            for name, one in protocol["experiments"].items():
                yield f"{file.stem}/{name}", _text(file.stem, name, protocol, one)


def write() -> list[Path]:
    """Write the files of conf/experiment; returns their paths."""
    written = []
    for name, text in experiments():
        target = paths.CONF / "experiment" / f"{name}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _folder() -> Path:
    return paths.CONF / paths.CLAIMS


def _text(paper: str, name: str, protocol: dict[str, Any], one: dict[str, Any]) -> str:
    """An experiment's file."""
    by_dataset = _by_dataset(one)
    datasets = list(by_dataset)
    rows = {dataset: row for dataset in datasets if (row := _row(paper, protocol, one, dataset)) is not None}
    for dataset, start in (one.get("start") or {}).items():
        by_dataset[dataset]["start_from"] = {"experiment": f"{paper}/{name}", "dataset": start}
        rows[dataset]["start"] = f"{paper}/{name} {start}"
    defaults = [f"  - override /{group}: {one.get(group, datasets[0])}" for group in ("model", "method", "dataset")]
    shared = nested(one.get("keys") or {})
    departures = [*(protocol.get("departures") or []), *(one.get("departures") or [])]
    lines = [
        "# @package _global_",
        f"# {one['about'][0].upper()}{one['about'][1:]}: {protocol['source']}, {one['rows'].get('table', 'quoted')}.",
        f"#   python -m peftbench reproduce experiment={paper}/{name} dataset={datasets[0]} hardware=gpu",
        f"# Made by python -m peftbench.config.claims from conf/claims/{paper}.csv and {paper}.yaml.",
        "defaults:",
        *defaults,
        *(f"{key}: {as_line(value)}" for key, value in shared.items()),
        "protocol:",
        *(f"  {dataset}: {as_line(by_dataset[dataset])}" for dataset in datasets),
        *(["expected:", *(f"  {dataset}: {as_line(row)}" for dataset, row in rows.items())] if rows else []),
        *(["departures:", *(f"  - {as_line(sentence)}" for sentence in departures)] if departures else []),
    ]
    return "\n".join(lines) + "\n"


def as_line(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _by_dataset(one: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of each data set, nested, from the table of a protocol."""
    table = dict(one.get("by_dataset") or {})
    columns = table.pop("columns", [])
    if table:
        return {name: nested(dict(zip(columns, values, strict=True))) for name, values in table.items()}
    return {name: {} for name in one["datasets"]}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`a.b: 1` as `a: {b: 1}`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        part = nested
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    return nested


def _row(paper: str, protocol: dict[str, Any], one: dict[str, Any], dataset: str) -> dict[str, Any] | None:
    """The row that is expected of a data set; None: the paper prints nothing of it."""
    figure = _figure(paper, one, dataset)
    if figure is None:
        return None
    scale = Decimal(str(protocol.get("scale", "0.01")))
    splits = read_yaml(paths.choice_files("dataset")[dataset])["evaluation"]
    claim = {**(protocol.get("claim") or {}), **(one.get("claim") or {})}
    special = (one.get("by_claim") or {}).get(dataset) or {}
    row: dict[str, Any] = {
        "value": float(Decimal(figure.value) * scale),
        "metric": METRICS.get(figure.metric),
        "split": "+".join(splits) if figure.metric == _OVERALL else splits[0],
        "source": f"{protocol['source']}, {figure.table}",
        "statistic": claim.get("statistic"),
        "seeds": claim.get("seeds"),
        "spread": float(Decimal(figure.spread) * scale) if figure.spread else None,
        "spread_kind": claim.get("spread_kind") if figure.spread else None,
        "rounding": float(_unit(figure.value) * scale / 2),
        "selection": claim.get("selection"),
        "base": read_yaml(paths.choice_files("model")[one["model"]]).get("checkpoint"),
        "start": claim.get("start"),
        **({"split": claim["split"]} if "split" in claim else {}),
        **special,
    }
    return {key: value for key, value in row.items() if value is not None or key == "metric"}


def _figure(paper: str, one: dict[str, Any], dataset: str) -> Figure | None:
    """The one figure of a paper that an experiment means on a data set."""
    names = {**DATASETS, **(one.get("names") or {})}
    metric = (one.get("metrics") or {}).get(dataset)
    met = [
        figure
        for figure in figures(paper)
        if names.get(figure.dataset) == dataset
        and all(getattr(figure, column) == value for column, value in one["rows"].items())
        and metric in (None, figure.metric)
    ]
    if len(met) > 1:
        raise ConfigError(f"conf/claims/{paper}.csv: {len(met)} rows for {one['about']} on {dataset}")
    return met[0] if met else None


def _unit(value: str) -> Decimal:
    """One unit of the last printed digit."""
    return Decimal(1).scaleb(int(Decimal(value).as_tuple().exponent))


if __name__ == "__main__":
    print(f"{len(write())} files")
