"""Metrics of texts against their definitions written out, on random and on awkward inputs."""

import math
import random
import re
from collections import Counter

import evaluate
import pytest
from nltk.stem.porter import PorterStemmer

from peftbench.tasks.metrics import registry, texts

_STEMMER = PorterStemmer()


def _words(text: str) -> list[str]:
    """As rouge_score reads: lower case, runs of a to z and digits, words of more than three letters stemmed."""
    return [_STEMMER.stem(w) if len(w) > 3 else w for w in re.findall("[a-z0-9]+", text.lower())]


def _f1(common: int, predicted: int, wanted: int) -> float:
    return 2 * common / (predicted + wanted) if common else 0.0


def _ngrams(items, n: int) -> Counter:
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def _rouge_n(n: int):
    def one(prediction: str, reference: str) -> float:
        p, r = _ngrams(_words(prediction), n), _ngrams(_words(reference), n)
        return _f1((p & r).total(), p.total(), r.total())

    return one


def _lcs_table(a: list[str], b: list[str]) -> list[list[int]]:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table


def _rouge_l(prediction: str, reference: str) -> float:
    p, r = _words(prediction), _words(reference)
    return _f1(_lcs_table(r, p)[-1][-1], len(p), len(r))


def _in_lcs(reference: list[str], prediction: list[str]) -> set[int]:
    """Which words of the reference one longest common subsequence holds."""
    table, found, i, j = _lcs_table(reference, prediction), set(), len(reference), len(prediction)
    while i and j:
        if reference[i - 1] == prediction[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found


def _sentences(text: str) -> list[list[str]]:
    lines = text.split("\n") if "\n" in text.strip() else re.split(r"(?<=[.!?])\s+", text)
    return [words for words in map(_words, lines) if words]


def _rouge_lsum(prediction: str, reference: str) -> float:
    p, r = _sentences(prediction), _sentences(reference)
    left_p, left_r = Counter(w for s in p for w in s), Counter(w for s in r for w in s)
    wanted, predicted, common = left_r.total(), left_p.total(), 0
    for sentence in r:
        for place in sorted(set().union(*(_in_lcs(sentence, other) for other in p))):
            word = sentence[place]
            if left_p[word] > 0 and left_r[word] > 0:  # No word counts twice.
                left_p[word] -= 1
                left_r[word] -= 1
                common += 1
    return _f1(common, predicted, wanted)


def _best(one):
    return lambda ps, rs: sum(max(one(p, r) for r in refs) for p, refs in zip(ps, rs, strict=True)) / len(ps)


def _bleu(predictions, references) -> float:
    """Papineni et al., 2002, with sacrebleu's smoothing: the k-th order without a match counts 1 / 2^k. Its words, on
    texts without punctuation, are those between spaces."""
    matches, totals, length, nearest = [0] * 4, [0] * 4, 0, 0
    for p, refs in zip(predictions, references, strict=True):
        words, others = p.split(), [r.split() for r in refs]
        length += len(words)
        nearest += min((abs(len(o) - len(words)), len(o)) for o in others)[1]
        for n in range(4):
            most = Counter()
            for o in others:
                most |= _ngrams(o, n + 1)
            mine = _ngrams(words, n + 1)
            matches[n] += (mine & most).total()
            totals[n] += mine.total()
    if not matches[0] or not length:
        return 0.0
    precisions, halved = [], 1.0
    for match, total in zip(matches, totals, strict=True):
        if not total:
            return 0.0
        halved = halved if match else halved * 2
        precisions.append(match / total if match else 1 / (halved * total))
    brevity = 1.0 if length >= nearest else math.exp(1 - nearest / length)
    return brevity * math.exp(sum(map(math.log, precisions)) / 4)


def _chrf(predictions, references) -> float:
    """Popović, 2015: counts of the corpus, with the reference that is best for each text; orders that neither side has
    aren't averaged."""

    def stats(p: str, r: str) -> list[tuple[int, int, int]]:
        a, b = "".join(p.split()), "".join(r.split())
        counts = []
        for n in range(1, 7):
            mine, other = _ngrams(a, n), _ngrams(b, n)
            counts.append((mine.total() if other else 0, other.total(), (mine & other).total()))
        return counts

    def score(counts) -> float:
        f = precision = recall = orders = 0.0
        for mine, other, match in counts:
            precision += match / mine if mine else 1e-16
            recall += match / other if other else 1e-16
            orders += bool(mine and other)
        if not orders:
            return 0.0
        precision, recall = precision / orders, recall / orders
        f = 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0
        return f

    total = [(0, 0, 0)] * 6
    for p, refs in zip(predictions, references, strict=True):
        best = max((stats(p, r) for r in refs), key=score)
        total = [tuple(x + y for x, y in zip(a, b, strict=True)) for a, b in zip(total, best, strict=True)]
    return score(total)


def _exact(predictions, references) -> float:
    same = [any(p.split() == r.split() for r in refs) for p, refs in zip(predictions, references, strict=True)]
    return same.count(True) / len(same)


DEFINITIONS = {
    "rouge1": _best(_rouge_n(1)),
    "rouge2": _best(_rouge_n(2)),
    "rougeL": _best(_rouge_l),
    "rougeLsum": _best(_rouge_lsum),
    "bleu": _bleu,
    "chrf": _chrf,
    "exact_match": _exact,
}

_VOCABULARY = "the cats were running over a lazily sleeping dog 42 times and nobody cared".split()


def _random_case(seed: int, *, sentences: bool) -> tuple[list[str], list[list[str]]]:
    rng = random.Random(seed)

    def text() -> str:
        words = rng.choices(_VOCABULARY, k=rng.randint(1, 14))
        return " ".join(w + ("." if sentences and rng.random() < 0.25 else "") for w in words)

    return [text() for _ in range(8)], [[text() for _ in range(rng.randint(1, 3))] for _ in range(8)]


AWKWARD = [
    ([""], [["a reference"]]),
    (["a prediction"], [[""]]),
    ([""], [[""]]),
    (["word"], [["word"]]),
    (["word"], [["other"]]),
    (["same same same"], [["same"]]),
    (["same"], [["same same same"]]),
    (["naïve café"], [["naïve café"]]),
    (["a b", "c d"], [["a b", "b a"], ["d c"]]),
    (["  spaced   out "], [["spaced out"]]),
    (["two references tie"], [["two references", "references tie"]]),
]


def test_every_metric_of_texts_has_a_definition_here() -> None:
    assert {name for name in registry.names() if hasattr(texts, name)} == set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_metric_is_what_its_definition_says(name: str) -> None:
    # BLEU's definition here knows no punctuation.
    cases = [_random_case(seed, sentences=name != "bleu") for seed in range(40)] + AWKWARD
    for predictions, references in cases:
        found = registry.get(name)(predictions, references)
        assert found == pytest.approx(DEFINITIONS[name](predictions, references), abs=1e-9), (predictions, references)
        assert 0 <= found <= 1 + 1e-9


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_perfect_text_scores_one_and_a_strange_one_nothing(name: str) -> None:
    text = "The quick brown fox jumps over the lazy dog. It was not amused at all."
    assert registry.get(name)([text], [["something else", text]]) == pytest.approx(1)
    assert registry.get(name)(["zzz"], [["qqq"]]) == pytest.approx(0, abs=1e-9)


def test_lines_are_what_a_summary_is_scored_by() -> None:
    """The same sentences in another order: whole texts share the longer one alone, line by line they are all there."""
    first, second = "alpha beta gamma delta", "one two three"
    predictions, references = [f"{second}\n{first}"], [[f"{first}\n{second}"]]
    assert registry.get("rougeL")(predictions, references) == pytest.approx(4 / 7)
    assert registry.get("rougeLsum")(predictions, references) == pytest.approx(1)
    assert registry.get("rougeLsum")([f"{second}. {first}."], [[f"{first}. {second}."]]) == pytest.approx(1)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_evaluate_loads_the_module_and_agrees(name: str, tmp_path) -> None:
    module = evaluate.load(registry.path(name), cache_dir=str(tmp_path))
    predictions, references = _random_case(0, sentences=True)
    got = module.compute(predictions=predictions, references=references)
    assert got == {name: pytest.approx(registry.get(name)(predictions, references))}
