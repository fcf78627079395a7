"""Advice held against what it wasn't shown: `advise` with a task's records left out, beside what these records say.

    python benchmarks/advice.py [--model minilm] [--write]

For every task of the published records on which at least four methods were trained with two seeds or more. A few tasks
prove no rate of success, so none is computed. --write puts the table into results/advice.md.
"""

import argparse
import time
from pathlib import Path

from peftbench.config.types import RunConfig
from peftbench.sweep import advice, advise
from peftbench.sweep.advice import NEAR
from peftbench.sweep.cells import plan
from peftbench.sweep.estimation import Options, make

ROOT = Path(__file__).parent.parent
LIMITS = advise.Limits()


def config_of(dataset: str, model: str) -> RunConfig:
    """A run of a task on a model, whose results folder is empty: what is published is all the evidence."""
    words = [f"dataset={dataset}", f"model={model}", "results_dir=/nonexistent"]
    return plan(words, multirun=False).cells[0]


def tasks(model: str) -> list[str]:
    """The tasks with a table of four tested methods or more, by name."""
    names = {file.name for study in (ROOT / "results/published").iterdir() for file in (study / "records").iterdir()}
    return sorted(name for name in names if "+" not in name and tested(config_of(name, model)))


def tested(config: RunConfig) -> list[advice.ComparableRuns]:
    """The tables of a task itself in which four methods or more have two seeds."""
    own = [panel for panel in advice.panels(config) if panel.distance == 0]
    return [panel for panel in own if sum(len(row.runs) > 1 for row in panel.rows) >= 4]


def row(dataset: str, model: str) -> list[str]:
    """A task: what the other tasks' records recommend, and where that stands in each table of its own."""
    config = config_of(dataset, model)
    elsewhere = advice.panels(config, without=dataset)
    if not elsewhere:
        return [dataset, "no evidence", "", "", ""]
    panel = elsewhere[0]
    words = [f"model={model}", "results_dir=/nonexistent", f"dataset={dataset}"]
    names = sorted({one.method for one in advise.best(panel.rows)})
    cells = [plan([*words, f"method={name}"], multirun=False).cells[0] for name in names]
    estimates = dict(zip(names, make(cells, Options()), strict=True))
    choice = advise.choose(panel, estimates, LIMITS)
    if choice is None:
        return [dataset, "none", "", "", ""]
    basis = f"{panel.dataset} ({panel.conditions}; {NEAR[panel.distance]})"
    judged = [standing(one, choice.row.method) for one in tested(config)]
    return [dataset, choice.row.method, ", ".join(choice.open), basis, "; ".join(judged)]


def standing(panel: advice.ComparableRuns, method: str) -> str:
    """Where a method stands in a table: its score, the best's, and whether they can be told apart."""
    advice.mark(panel.rows)
    best = panel.rows[0]
    its = next((one for one in panel.rows if one.method == method), None)
    leader = f"best is {best.method} {100 * best.mean:.1f}"
    if its is None:
        return f"not recorded; {leader}"
    place = 1 + [one.method for one in panel.rows].index(method)
    tie = {True: "can't be told from it", False: "is lower", None: "not tested"}[its.tied]
    return f"{100 * its.mean:.1f}, place {place} of {len(panel.rows)}, {tie}; {leader}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    head = ["task left out", "advised", "can't be told from it there", "by the records of", "what its own records say"]
    rows = [head, ["---"] * len(head), *(row(name, asked.model) for name in tasks(asked.model))]
    page = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    print(page)
    if asked.write:
        text = (
            "# Advice beside what it wasn't shown\n\n"
            f"Made by `python benchmarks/advice.py --write` on {time.strftime('%F')}, model {asked.model}.\n"
            "`advise` was shown the published records of all tasks but one.\n"
            "So few tasks prove no rate, so none is claimed.\n\n"
        )
        (ROOT / "results/advice.md").write_text(text + page + "\n")


if __name__ == "__main__":
    main()
