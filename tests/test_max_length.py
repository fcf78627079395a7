"""The length of examples: what a data set's file asks for, and what doesn't fit, said of all rows before training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from composed import composed, written
from conftest import write_split

from peftbench import backbones, compose, paths, tasks
from peftbench.data import lengths
from peftbench.job import prepare
from peftbench.tasks.fitting import TooLong

USUAL = 128


@pytest.mark.parametrize("name", [name for name, file in written("dataset").items() if file.get("task") != "mixture"])
def test_the_usual_length_is_what_it_was_where_a_file_asks_for_no_other(name: str) -> None:
    asked = written("dataset")[name].get("max_length")
    assert composed([f"dataset={name}"]).recipe.max_length == (asked or USUAL)
    assert composed([f"dataset={name}", "recipe.max_length=77"]).recipe.max_length == 77


def test_sets_that_the_usual_length_is_too_short_for_ask_for_more() -> None:
    asking = {name: file["max_length"] for name, file in written("dataset").items() if "max_length" in file}
    assert {"samsum", "wsc"} <= set(asking)
    assert all(length > USUAL for length in asking.values())
    # What a decoder of 514 positions can take, with the answer and a soft prompt of 20 tokens.
    for name, length in asking.items():
        answer = (written("dataset")[name].get("generation") or {}).get("max_new_tokens", 0)
        assert length + answer + 20 <= 514, name
        assert answer + 64 < length, name


def test_a_mixture_takes_the_longest_of_its_parts() -> None:
    line = ["dataset=mixture", "dataset.parts=[sst2,wsc]"]
    assert composed(line).recipe.max_length == composed(["dataset=wsc"]).recipe.max_length
    assert composed([*line, "recipe.max_length=64"]).recipe.max_length == 64
    assert composed(["dataset=mixture", "dataset.parts=[sst2,rte]"]).recipe.max_length == USUAL


def test_the_length_that_a_file_asks_for_decides_no_key_by_itself(tmp_path: Path) -> None:
    from peftbench import schema

    asked = composed(["dataset=wsc"])
    assert "max_length" not in schema.identity(asked.dataset)
    records = sorted((paths.CONF.parent / "results" / "published").glob("*/records/**/*.json"))
    assert records
    lengths_ = {json.loads(file.read_text())["config"]["recipe"]["max_length"] for file in records}
    assert USUAL in lengths_


@pytest.fixture
def long_rows(tmp_path: Path) -> Callable[..., list[str]]:
    """RTE whose second text may not be cut: some rows of it have 300 and 400 bytes."""
    for split, longest in (("train", 300), ("validation", 400)):
        hypotheses = ["short"] * 17 + ["x" * 200] * 2 + ["y" * longest]
        columns = {"sentence1": ["a " * 300] * 20, "sentence2": hypotheses, "label": [0, 1] * 10}
        write_split(tmp_path / "data" / "glue" / "rte", split, columns)
    places = [f"data_root={tmp_path / 'data'}", f"results_dir={tmp_path / 'r'}"]
    return lambda *more: ["dataset=rte", "model=tiny_bert", *places, *more]


def test_all_rows_that_do_not_fit_are_counted_before_training(
    run_cli: Callable[..., tuple[int, str, str]], long_rows: Callable[..., list[str]], tmp_path: Path
) -> None:
    status, _, err = run_cli(*long_rows("method=lora,full", "-m"))
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert "recipe.max_length=128: what isn't cut alone takes up to 403 tokens, in 6 of 40 texts of dataset=rte" in err
    assert "recipe.max_length=403 fits" in err
    assert not list((tmp_path / "r").rglob("run.log"))


@pytest.mark.parametrize("parts", [[], ["dataset=mixture", "dataset.parts=[rte,rte_again]"]])
def test_the_length_that_is_said_is_the_least_that_fits(
    long_rows: Callable[..., list[str]], tmp_path: Path, parts: list[str]
) -> None:
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    text = (paths.CONF / "dataset" / "rte.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine" / "dataset" / "rte_again.yaml").write_text(text, encoding="utf-8")

    def look(length: int) -> None:
        line = [
            word for word in long_rows(f"recipe.max_length={length}", *parts) if parts == [] or word != "dataset=rte"
        ]
        cell = prepare(compose.plan(line, multirun=False, config_dirs=[tmp_path / "mine"]).cells[0])
        tokenizer = backbones.load_tokenizer(cell.config.model, cell.checkpoint)
        lengths.check(cell.config, tasks.build(cell.config), tokenizer, cell.source, tmp_path / "cache")

    look(403)
    with pytest.raises(TooLong, match="up to 403 tokens, in"):
        look(402)


def test_only_the_rows_that_a_run_takes_must_fit(long_rows: Callable[..., list[str]], train, tmp_path: Path) -> None:
    few = ["recipe.train_samples=1", "recipe.eval_samples=1", "recipe.selection=last", "dataset.carve.seed=0"]
    cell = prepare(composed(long_rows(*few)))
    tokenizer = backbones.load_tokenizer(cell.config.model, cell.checkpoint)
    lengths.check(cell.config, tasks.build(cell.config), tokenizer, cell.source, tmp_path / "cache")
    with pytest.raises(TooLong, match="in 2 of 18 texts"):  # Where it is tokenised, too: of a split all at once.
        train(*(word for word in long_rows() if not word.startswith("results_dir")))
