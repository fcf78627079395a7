"""One file divided into what is trained on and what is evaluated."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from peftbench.data import division
from peftbench.errors import ConfigError
from peftbench.run.prepared import prepare
from tests.helpers.built import Built
from tests.helpers.composed import composed
from tests.helpers.own_files import CLASSIFY, Files, csv_text, examples, labels


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_every_class_is_on_both_sides_by_its_share() -> None:
    classes = ["a"] * 100 + ["b"] * 20 + ["c"] * 2 + ["d"]
    held_out = division.held_out(classes, share=0.2, seed=0)
    counts = Counter(np.array(classes)[held_out])
    assert counts == {"a": 20, "b": 4, "c": 1}
    assert not np.array_equal(held_out, division.held_out(classes, share=0.2, seed=1))
    assert np.array_equal(held_out, division.held_out(classes, share=0.2, seed=0))


def test_a_unit_stays_on_one_side() -> None:
    drawn = np.random.default_rng(0)
    units = drawn.integers(0, 60, size=600)
    classes = units % 3
    held_out = division.held_out(classes.tolist(), units.tolist(), share=0.25, seed=3)
    assert not set(units[held_out]) & set(units[~held_out])
    assert 0.2 < held_out.mean() < 0.3
    for kind in range(3):
        assert 0.18 < held_out[classes == kind].mean() < 0.32


def test_one_file_is_both_splits(files: Files) -> None:
    file = files.csv(csv_text(["up"] * 40 + ["down"] * 10))
    one = files.whole(file, *CLASSIFY)
    assert Counter(labels(one)) == {"up": 32, "down": 8}
    assert Counter(labels(one, "validation")) == {"up": 8, "down": 2}
    every = Counter(e.fields["note"] for split in ("train", "validation") for e in examples(one, split))
    assert sum(every.values()) == 50
    same = files.whole(file, *CLASSIFY, "dataset.holdout=0.2", "dataset.split_seed=0")
    assert same.key == one.key
    others = [files.whole(file, *CLASSIFY, f"dataset.{word}") for word in ("holdout=0.4", "split_seed=1")]
    assert len({one.key, *(cell.key for cell in others)}) == 3
    assert Counter(labels(others[0], "validation")) == {"up": 16, "down": 4}
    assert one.config.dataset.name == "a"


def test_rows_of_a_group_stay_together_in_every_division(files: Files, tmp_path: Path) -> None:
    rows = "".join(f"text {i},{('up', 'down')[i // 3 % 2]},c{i // 3}\n" for i in range(180))
    file = files.csv("note,mood,customer\n" + rows)
    cell = files.whole(file, *CLASSIFY, "dataset.group=[customer]")
    train, validation = (
        {int(e.fields["note"].split()[1]) // 3 for e in examples(cell, split)} for split in ("train", "validation")
    )
    assert len(train) + len(validation) == 60
    data = Built(cell).data
    selection, trained = data.slices["selection"], data.train
    assert selection is not None
    texts = [e.fields["note"] for e in examples(cell)]
    groups = [{int(texts[row].split()[1]) // 3 for row in part.rows} for part in (selection, trained)]
    assert not groups[0] & groups[1]


def test_shots_are_drawn_by_class_where_rows_stay_together(files: Files) -> None:
    rows = "".join(f"text {i},{('up', 'down')[i // 3 % 2]},c{i // 3}\n" for i in range(180))
    cell = files.whole(
        files.csv("note,mood,customer\n" + rows),
        *CLASSIFY,
        "dataset.group=[customer]",
        "recipe=fewshot",
        "recipe.shots=4",
    )
    assert Counter(Built(cell).data.train.labels.tolist()) == {0: 12, 1: 12}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.train_file=b.csv"], "dataset.train_file: doesn't go with dataset.file"),
        (["dataset.holdout=1.5"], "dataset.holdout"),
        (["dataset.holdout=0"], "dataset.holdout"),
        (["dataset.group=[nope]"], "dataset.group=nope: a.csv has no such column"),
    ],
)
def test_what_does_not_go_is_refused_in_one_line(files: Files, words: list[str], message: str) -> None:
    assert message in files.refusal_of_whole(files.csv(csv_text(["up", "down"] * 5)), *CLASSIFY, *words)


def test_a_file_of_one_row_cannot_be_divided(files: Files) -> None:
    words = [*CLASSIFY, "dataset.labels=[up,down]"]
    assert "too few to divide" in files.refusal_of_whole(files.csv(csv_text(["up"])), *words)


def test_a_share_without_a_file_to_divide_is_refused(files: Files) -> None:
    file = files.csv(csv_text(["up", "down"] * 5))
    assert "dataset.holdout: goes with dataset.file" in files.refusal(file, *CLASSIFY, "dataset.holdout=0.3")
    elsewhere = composed(["model=tiny_bert", "dataset=demo", "+dataset.file=x.csv"])
    with pytest.raises(ConfigError, match="dataset.file: goes with dataset=csv"):
        prepare(elsewhere)
