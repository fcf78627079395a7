"""BERTScore, against the paper's sums in plain loops, on a tiny model saved to a folder."""

import math
from pathlib import Path

import pytest
import torch

from peftbench.errors import ConfigError
from peftbench.results.store import ResultStore
from peftbench.run.bertscore import BertScore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from tests.helpers.built import checkpoint

COPY = ["model=tiny_gpt2", "dataset=copy", "recipe.train_samples=16", "recipe.eval_samples=6"]


@pytest.fixture
def folder(cell, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return checkpoint(cell("model=tiny_bert"), tmp_path / "judge")


def _f(judge: BertScore, candidate: str, reference: str) -> float:
    """One pair, token by token; the tokens around a text can be matched and aren't counted."""

    def vectors(text: str) -> list[list[float]]:
        ids = judge.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            return judge.model(**ids, output_hidden_states=True).hidden_states[judge.layer][0].tolist()

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    mine, theirs = vectors(candidate), vectors(reference)
    precision = [max(cosine(a, b) for b in theirs) for a in mine][1:-1]
    recall = [max(cosine(a, b) for a in mine) for b in theirs][1:-1]
    p, r = sum(precision) / len(precision), sum(recall) / len(recall)
    return 2 * p * r / (p + r)


@pytest.mark.parametrize("layer", [1, None])
def test_it_is_the_papers_formula(folder: Path, layer: int | None) -> None:
    judge = BertScore(str(folder), layer)
    texts = ["a cat sat", "it rained", "ünïcode — yes"]
    right = [["the cat sat down", "a dog"], ["it rained all day"], ["unicode"]]
    own = [max(_f(judge, text, other) for other in others) for text, others in zip(texts, right, strict=True)]
    assert judge.score(texts, right) == pytest.approx(sum(own) / 3, abs=1e-5)
    assert len(set(own)) == 3


def test_the_same_text_is_one_and_none_is_nothing(folder: Path) -> None:
    judge = BertScore(str(folder), None)
    assert judge.score(["same text"], [["other", "same text"]]) == pytest.approx(1.0)
    assert judge.score([""], [["text"]]) == 0.0
    long = "word " * 400
    assert judge.score([long], [[long]]) == pytest.approx(1.0)


def test_a_run_has_it_only_where_its_model_is_given(cell, folder: Path) -> None:
    def record(*more: str):
        found = cell(*COPY, "method=zero_shot", *more)
        places = ResultStore(found.config.results_dir).places(found.config, found.key)
        return found.key, run(RunContext(found, places, [], lambda event: None))

    plain_key, plain = record()
    key, judged = record(f"bertscore_model={folder}")
    assert set(plain.metrics["validation"]["values"]) == {"exact_match"}
    assert 0 < judged.metrics["validation"]["values"]["bertscore"] <= 1
    assert set(judged.metrics["selection"]["values"]) == {"exact_match"}
    assert judged.score == plain.score
    assert key != plain_key
    assert str(folder) not in str(judged.to_dict())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["bertscore_layer=1"], "bertscore_layer: needs bertscore_model"),
        (["bertscore_model={}", "bertscore_layer=9"], "bertscore_layer=9: .* has 2"),
        (["bertscore_model={}", "dataset=demo", "model=tiny_bert"], "compares texts; dataset=demo has labels"),
        (["bertscore_model=nobody/nothing"], "bertscore_model=nobody/nothing: model=nobody/nothing: can't get"),
    ],
)
def test_what_does_not_fit_is_one_line(tiny, folder: Path, more: list[str], message: str) -> None:
    from peftbench.config import compose

    with pytest.raises(ConfigError, match=message):
        prepare(compose.one(tiny(*COPY, *(word.replace("{}", str(folder)) for word in more))))
