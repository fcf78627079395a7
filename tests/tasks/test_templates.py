"""The templates of every data set: what they take a real row has, and they are unlike each other."""

import difflib
import itertools
from pathlib import Path

import numpy as np
import pytest

from peftbench.config import compose
from peftbench.data import sources
from peftbench.data.chosen import ChosenRows
from peftbench.data.templates import names
from peftbench.errors import ConfigError
from peftbench.tasks.table import build as build_task
from tests.helpers import hub_sets
from tests.helpers.composed import composed, written

FILES = {name: file for name, file in written("dataset").items() if "templates" in file}
#: Those that there are rows of without the hub: made up in its layout, or by a generator.
MADE_UP = sorted(
    name
    for name, file in FILES.items()
    if file.get("generator") or (str(file.get("path")).rpartition("/")[2], file.get("config")) in hub_sets.SETS
)
SUMMARIES = ["cnn_dailymail", "dialogsum", "samsum", "xsum"]


def test_every_set_of_a_suite_and_every_summary_has_five() -> None:
    suites = [name for name, file in written("dataset").items() if file.get("suite")]
    assert len(suites) > 15
    for name in (*suites, *SUMMARIES):
        assert len(FILES[name]["templates"]) >= 5


@pytest.mark.parametrize("name", sorted(FILES))
def test_templates_are_unlike_each_other(name: str) -> None:
    templates = FILES[name]["templates"]
    assert FILES[name].get("template") is None or len(set(templates)) == len(templates)
    for first, second in itertools.combinations(templates, 2):
        assert difflib.SequenceMatcher(None, first, second).ratio() < 0.85, (first, second)


def asked(name: str, root: str, results: Path) -> list[list[str]]:
    """The first rows of a data set's scored split, put by each of its templates."""
    other = "sst2" if name != "sst2" else "cola"
    words = ["model=tiny_t5", "dataset=mixture", f"dataset.parts=[{name},{other}]", "formulation=text"]
    config = composed([*words, f"data_root={root}", f"results_dir={results}"])
    task, data = build_task(config).parts[0], config.dataset.parts[0]
    source = sources.locate(data, data_root=root, cache=results, train=False)
    rows = ChosenRows(config, task.reader, source).examples(data.evaluation[0], np.arange(3))
    every = range(len(task.phrasing.templates))
    lines = []
    for example in rows:
        fields = task._asked(example).fields
        lines.append([task.demonstration(example, _as_if(task, example, number)) for number in every])
        for template, text in zip(task.phrasing.templates, lines[-1], strict=True):
            assert all(fields[column].strip() in text for column in names(template))
    return lines


def _as_if(task, example, number: int):
    """A row for which this template is drawn."""
    from dataclasses import replace

    others = (replace(example, row=row, group=None) for row in range(10_000))
    return next(other for other in others if task.phrasing.number(other) == number)


@pytest.mark.parametrize("name", MADE_UP)
def test_templates_fill_from_a_row(hub_root, tmp_path, name: str) -> None:
    _check(asked(name, str(hub_root), tmp_path))


@pytest.mark.parametrize("name", sorted(FILES))
def test_templates_fill_from_a_real_row(real_data, tmp_path, name: str) -> None:
    try:
        lines = asked(name, real_data, tmp_path)
    except ConfigError as error:
        if "data_root=" not in str(error):
            raise
        pytest.skip(f"{name} isn't among the real data")  # A folder of one's own may hold some alone.
    _check(lines)


def _check(lines: list[list[str]]) -> None:
    for texts in lines:
        assert len(set(texts)) == len(texts) >= 5
        assert all("{" not in text.partition("\n\n")[0] or "}" not in text for text in texts)


def test_a_template_of_ones_own_is_checked(tmp_path) -> None:
    sst2 = compose.paths.choice_files("dataset")["sst2"].read_text()
    (tmp_path / "dataset").mkdir()
    broken = sst2.replace("Review: {sentence}", "Review: {sentense}")
    assert broken != sst2
    (tmp_path / "dataset" / "mine.yaml").write_text(broken)
    from peftbench.sweep.cells import plan

    words = ["dataset=mixture", "dataset.parts=[mine,cola]", "formulation=text", "model=tiny_t5"]
    (config,) = plan(words, multirun=False, config_dirs=[tmp_path]).cells
    with pytest.raises(ConfigError, match=r"dataset\.templates: takes \{sentence\}"):
        build_task(config)
