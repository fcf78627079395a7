"""What is kept of each text, against the metrics themselves: all texts, and all but each."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.results.statistics import answers, corpus
from peftbench.tasks.metrics import by_example, registry
from peftbench.tasks.metrics.scope import TEXTS, scope
from tests.helpers.boards import made

OF_TEXTS = [name for name in registry.names() if scope(name).kind == TEXTS]
WORDS = "the cat sat on a mat while its friend slept near an old door and sang".split()
RUSSIAN = "кошка сидит на старом окне и смотрит вниз".split()


def _texts(words: list[str], n: int, seed: int, shortest: int = 3) -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(seed)
    right = [[" ".join(rng.choice(words, rng.integers(shortest, 9))) for _ in range(1 + i % 3)] for i in range(n)]
    written = [
        text[0] if rng.random() < 0.3 else " ".join(w if rng.random() < 0.7 else "dog" for w in text[0].split())
        for text in right
    ]
    return [*written[:-1], ""], right


def test_every_metric_of_texts_is_a_mean_or_made_of_sums() -> None:
    assert {name for name in OF_TEXTS if scope(name).mean} == set(corpus.MEANS)
    assert set(by_example.CORPUS) == corpus.METRICS.keys() == set(OF_TEXTS) - set(corpus.MEANS)
    assert by_example.statistics("accuracy", [], []) is None
    assert by_example.statistics("mine.cost", ["a"], [["b"]]) is None


@pytest.mark.parametrize("words", [WORDS, RUSSIAN], ids=["English", "Russian"])
@pytest.mark.parametrize("name", OF_TEXTS)
def test_pseudo_values_are_those_of_scoring_again_without_each(name: str, words: list[str]) -> None:
    written, right = _texts(words, 14, 5)
    kept = by_example.statistics(name, written, right)
    assert kept is not None
    jackknife = corpus.pseudo_values(name, np.array(kept))
    assert jackknife is not None
    n, whole = len(written), registry.compute([name], written, right)[name]
    assert jackknife.whole == pytest.approx(whole, abs=1e-12)
    without = [
        registry.compute([name], written[:i] + written[i + 1 :], right[:i] + right[i + 1 :])[name] for i in range(n)
    ]
    assert jackknife.values == pytest.approx([n * whole - (n - 1) * other for other in without], abs=1e-10)


@pytest.mark.parametrize("name", by_example.CORPUS)
@pytest.mark.parametrize(
    ("written", "right"),
    [
        (["", ""], [["a b"], ["c"]]),
        (["a b", "dog"], [["a b"], ["c d e f"]]),
        (["x y z w v"], [["a b c d e"]]),
        (["кот", "дом"], [["кот"], ["лес"]]),
        (["a b c d"] * 2, [["a b c d"]] * 2),
    ],
    ids=["empty", "short", "nothing right", "shorter than all n-grams", "all right"],
)
def test_corner_cases_of_corpus_metrics(name: str, written: list[str], right: list[list[str]]) -> None:
    kept = by_example.statistics(name, written, right)
    assert kept is not None
    jackknife = corpus.pseudo_values(name, np.array(kept))
    assert jackknife is not None
    assert jackknife.whole == pytest.approx(registry.compute([name], written, right)[name], abs=1e-12)
    assert np.isfinite(jackknife.values).all()


@pytest.mark.parametrize("with_texts", [True, False])
def test_predictions_have_what_an_interval_needs_without_the_texts(tmp_path: Path, with_texts: bool) -> None:
    written, right = _texts(WORDS, 12, 7)
    names = ["bleu", "rougeL"]
    values = registry.compute(names, written, right)
    columns: dict[str, object] = {"split": ["test"] * 12, "row": list(range(11, -1, -1))}
    if with_texts:
        columns |= {"answer": written, "references": right}
    columns |= {answers.EXAMPLE + name: by_example.statistics(name, written, right) for name in names}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    split = {"values": {**values, "bertscore": 0.5}, "score": sum(values.values()) / 2, "n": 12}
    record = made(sum(values.values()) / 2, "dataset=sst2", metrics={"test": split})
    record.config["dataset"] |= {"evaluation": ["test"], "metrics": dict.fromkeys(names, "max")}
    run = answers.pseudo_values(record, tmp_path / "p.parquet")
    assert run is not None
    assert run.units.tolist() == list(range(12))
    assert run.values.mean() == pytest.approx(split["score"], abs=0.02)
    record.metrics["test"]["values"]["bleu"] += 0.01  # type: ignore[index]
    assert answers.pseudo_values(record, tmp_path / "p.parquet") is None
