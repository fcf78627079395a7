"""What is cut where an example is longer than recipe.max_length, and what isn't."""

import pytest

from peftbench.data.examples import Example
from peftbench.errors import ConfigError
from peftbench.tasks.fitting import Posed, fit
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built

_QUESTION = "who was it that did so, and when, and where, and why, and with whose help did it happen"


class TestCutting:
    @pytest.mark.parametrize(
        ("name", "long", "others"),
        [
            ("boolq", "passage", {"question": _QUESTION}),
            ("qnli", "sentence", {"question": _QUESTION}),
            ("multirc", "paragraph", {"question": _QUESTION, "candidate": "no"}),
            ("record", "passage", {"query": _QUESTION}),
        ],
    )
    @pytest.mark.parametrize("way", ["head", "verbaliser"])
    def test_the_passage_is_cut_and_the_question_is_not(self, made, name: str, long: str, others, way: str) -> None:
        """Even where the question is longer than what is left of the passage."""
        config = made(f"dataset={name}", f"formulation={way}").config
        task = build_task(config)
        case = Built(made("dataset=mrpc", "method=full"))
        task.prepare(case.context.tokenizer)
        fields = {**others, long: "word " * 60, **({"candidate": "Ann"} if name == "record" else {})}
        encoded = task.encode(case.context.tokenizer, [Example(0, fields)], 160)
        text = case.context.tokenizer.decode(encoded.input_ids[0])
        assert encoded.cut == 1
        assert len(encoded.input_ids[0]) <= 160
        assert all(value in text for value in others.values())
        assert "word word" in text

    def test_the_longest_are_levelled(self, made) -> None:
        tokenizer = Built(made("dataset=mrpc", "method=full")).context.tokenizer
        fields = {"a": "x" * 90, "b": "y" * 50, "c": "z" * 10}
        lines, cut = fit(
            tokenizer, [Posed(fields)], beside=[0], cuttable=list(fields), max_length=100,
            render=lambda many: {"input_ids": [tokenizer("".join(f.values()))["input_ids"] for f in many]},
        )  # fmt: skip
        text = tokenizer.decode(lines["input_ids"][0], skip_special_tokens=True)
        assert cut == {0}
        assert (text.count("x"), text.count("y"), text.count("z")) == (44, 44, 10)

    def test_what_may_not_be_cut_and_does_not_fit_is_said(self, made) -> None:
        case = Built(made("dataset=boolq", "method=full"))
        fields = {"question": "why " * 60, "passage": "because"}
        with pytest.raises(ConfigError, match="recipe.max_length=50: what isn't cut alone takes"):
            case.task.encode(case.context.tokenizer, [Example(0, fields)], 50)

    def test_characters_of_several_tokens_are_cut_too(self, made) -> None:
        case = Built(made("dataset=mrpc", "method=full"))
        fields = {"sentence1": "é😀" * 40, "sentence2": "ж" * 40}
        encoded = case.task.encode(case.context.tokenizer, [Example(0, fields)], 50)
        assert 40 < len(encoded.input_ids[0]) <= 50

    def test_what_was_cut_is_in_the_record_for_every_split(self, recorded) -> None:
        record, _ = recorded("dataset=boolq", "recipe.max_length=60", "recipe.epochs=1")
        assert 0 < record.samples["truncated"] <= record.samples["examples"]
        assert all(0 < record.metrics[name]["truncated"] <= 24 for name in ("selection", "validation"))
