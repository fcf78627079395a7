"""`peftbench reproduce` on its own: what there is to run again, what of it is recorded, and what came out."""

import functools
import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from peftbench.config import claims, experiments, loading, paths
from peftbench.config.expected import ExpectedConfig
from peftbench.config.experiments import Claim
from peftbench.errors import ConfigError, nearest
from peftbench.results.report.load import Results, load
from peftbench.results.reproduction import match, table
from peftbench.results.reproduction.match import JudgedRow
from peftbench.sweep import finding
from peftbench.system import escape

_PAPER = "paper"
#: Seeds where a paper doesn't say how many it had.
_SEEDS = 1
_WIDTH = 80


def main(arguments: Sequence[str], folders: Sequence[Path]) -> int:
    """Print every claim that has a run line and every finding, or all figures of a paper; returns the exit status."""
    root, paper = _asked(arguments)
    here = [c for c in experiments.claims(folders) if paper is None or c.experiment.startswith(f"{paper}/")]
    results = load(root) if root.is_dir() else Results()
    _print_claims(here, _judged(results, folders), folders)
    if paper is not None:
        print(end="\n" * bool(here))
        _print(
            [
                [f.table, f.model, f.method, f.setting, f.dataset, f.metric, f.value, f.spread]
                for f in claims.figures(paper)
            ]
        )
        return 0
    _print_findings(results, folders)
    total = sum(len(claims.figures(name)) for name in claims.papers())
    print(
        f"\n{len(here)} rows can be run: experiment=... dataset=...; {len(finding.names(folders))} sayings: finding=..."
    )
    print(f"{total} figures of {len(claims.papers())} papers are known; paper={claims.papers()[0]} shows those of one")
    return 0


def _asked(arguments: Sequence[str]) -> tuple[Path, str | None]:
    """The results folder, and the paper whose figures are asked for."""
    asked = dict.fromkeys(("results_dir", _PAPER))
    for word in arguments:
        key, _, value = word.partition("=")
        if key not in asked or not value:
            named = [f"{name}=" for name in (*asked, "experiment", "finding")]
            raise ConfigError(f"reproduce: {word}: {nearest(word, ['counts', *named])}")
        asked[key] = value
    paper = asked[_PAPER]
    if paper is not None and paper not in claims.papers():
        raise ConfigError(f"paper={paper}: no such paper; {nearest(paper, claims.papers())}")
    return Path(asked["results_dir"] or "results"), paper


def seeds(expected: ExpectedConfig | None) -> int:
    """The number of seeds that a claim is run with: the paper's."""
    return (expected.seeds if expected is not None else None) or _SEEDS


def _judged(results: Results, folders: Sequence[Path]) -> dict[tuple[str, str], JudgedRow]:
    """The rows that a results folder has runs of, by experiment and data set."""
    rows = match.rows(results.completed, lambda name, dataset: experiments.official(name, dataset, folders))
    return {(row.experiment, row.dataset): row for row in rows}


def _print_claims(here: Sequence[Claim], judged: dict[tuple[str, str], JudgedRow], folders: Sequence[Path]) -> None:
    """Print a heading for each experiment and source, and below it a line for each data set."""
    read = functools.cache(loading.read_yaml)  # A claim a data set: most files are asked for often.
    files = {group: paths.choice_files(group, folders) for group in ("experiment", "dataset")}
    contents = [(read(files["experiment"][c.experiment]), read(files["dataset"][c.dataset])) for c in here]
    lines = [
        _line(claim, _cost(claim, *content), judged.get((claim.experiment, claim.dataset)))
        for claim, content in zip(here, contents, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    headings = [c.experiment + ("" if c.expected is None else f"  ({c.expected.source})") for c in here]
    for heading, members in groupby(zip(headings, lines, strict=True), lambda pair: pair[0]):
        _print_wrapped(heading)
        for _, line in members:
            print(escape.line(f"  {_joined(line, widths)}"))


def _line(claim: Claim, cost: str, row: JudgedRow | None) -> list[str]:
    return [
        claim.dataset,
        "no figure" if claim.expected is None else table.printed(claim.expected),
        cost,
        "" if row is None else f"{row.verdict.seeds} recorded: {row.verdict.verdict}",
    ]


def _cost(claim: Claim, experiment: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Steps of a claim's runs, as its files say: seconds are known of records alone."""
    protocol = (experiment.get("protocol") or {}).get(claim.dataset) or {}
    recipe = {**(experiment.get("recipe") or {}), **(protocol.get("recipe") or {})}
    rows = (data.get("rows") or {}).get(data.get("train"))
    if rows is None or "batch_size" not in recipe or "epochs" not in recipe:
        return ""
    rows = min(rows, recipe.get("train_samples") or rows)
    steps = math.ceil(rows / recipe["batch_size"]) * recipe["epochs"]
    return f"{min(steps, recipe.get('max_steps') or steps):,} steps x {seeds(claim.expected)}"


def _print_findings(results: Results, folders: Sequence[Path]) -> None:
    """Print every saying that can be put to the test, with its answer where it has been."""
    answers = {one.name: one.result.answer for one in results.findings}
    print("\nSayings of the field")
    for name in finding.names(folders):
        try:
            said = finding.statement(name, folders)
        except ConfigError as error:  # Of a folder of the user's own: the others are listed all the same.
            said = str(error)
        _print_wrapped(f"{name}: {said}" + (f" ({answers[name]})" if name in answers else ""), "  ")


def _print_wrapped(text: str, indent: str = "") -> None:
    wrapper = textwrap.TextWrapper(_WIDTH, indent, f"{indent}    ", break_on_hyphens=False)
    print(wrapper.fill(escape.line(text)))


def _print(rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest entry."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(escape.line(_joined(row, widths)))


def _joined(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
