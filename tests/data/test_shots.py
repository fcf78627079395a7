"""So many training examples a class: drawn, refused, trained on."""

import pytest

from peftbench.errors import ConfigError
from tests.helpers.built import Built


class TestShots:
    @pytest.mark.parametrize("name", ["cb", "wic", "mnli"])
    def test_so_many_of_each_class(self, made, name: str) -> None:
        case = Built(made(f"dataset={name}", "method=full", "recipe=fewshot", "recipe.shots=4"))
        for examples in (case.data.train, case.data.slices["selection"]):
            assert set(examples.labels.bincount().tolist()) == {4}
        assert not set(case.data.train.rows.tolist()) & set(case.data.slices["selection"].rows.tolist())

    @pytest.mark.parametrize(("name", "examples"), [("copa", 4), ("stsb", 4), ("multirc", 16), ("record", 16)])
    def test_so_many_where_there_are_no_classes(self, made, name: str, examples: int) -> None:
        case = Built(made(f"dataset={name}", "method=full", "recipe=fewshot", "recipe.shots=4"))
        assert len(case.data.train) == len(case.data.slices["selection"]) == examples

    def test_its_seed_draws_and_the_runs_does_not(self, made) -> None:
        def rows(*more: str) -> list[int]:
            found = made("dataset=cb", "method=full", "recipe=fewshot", "recipe.shots=4", *more)
            return Built(found).data.train.rows.tolist()

        assert rows() == rows("seed=1")
        assert rows() != rows("recipe.shots_seed=1")

    def test_too_few_are_said(self, made) -> None:
        with pytest.raises(ConfigError, match="recipe.shots=16: cb has 16 of one kind, and 32 are needed"):
            Built(made("dataset=cb", "method=full", "recipe=fewshot"))
        case = Built(made("dataset=cb", "method=full", "recipe=fewshot", "recipe.selection=last"))
        assert len(case.data.train) == 48

    def test_it_runs_and_says_so(self, recorded) -> None:
        record, _ = recorded(
            "dataset=cb", "recipe=fewshot", "recipe.shots=4", "recipe.max_steps=4", "recipe.eval_steps=2"
        )
        assert record.samples["train"] == 12
        assert "cb: 4 training examples a class, drawn with seed 0" in record.footnotes
