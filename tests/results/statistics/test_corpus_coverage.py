"""What intervals of a corpus metric promise: BLEU from what is kept of each text, on studies whose truth is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from peftbench.results.statistics import corpus, intervals
from tests.results.statistics.test_coverage import PROMISED


@dataclass(frozen=True)
class Texts:
    """Runs that write texts: a word is right by the seed's luck and the example's difficulty (in logits); an n-gram is
    right where its words are."""

    seeds: int
    examples: int
    luck: float

    def sums(self, rng: np.random.Generator, seeds: int, examples: int) -> np.ndarray:
        """(S, N, 11) numbers of each text."""
        wanted = rng.integers(4, 25, examples)
        written = np.maximum(wanted + rng.integers(-3, 3, (seeds, examples)), 1)
        logits = 0.9 + self.luck * rng.normal(size=(seeds, 1)) + 0.8 * rng.normal(size=examples)
        chance = 1 / (1 + np.exp(-(logits + 0.5 * rng.normal(size=(seeds, examples)))))
        total = np.stack([np.maximum(written - n, 0) for n in range(4)], axis=-1)
        right = np.stack([rng.binomial(total[..., n], chance ** (0.6 * n + 1)) for n in range(4)], axis=-1)
        lengths = np.stack([written, np.broadcast_to(wanted, written.shape)], axis=-1)
        return np.concatenate([lengths, right, total, np.zeros((seeds, examples, 1))], axis=-1).astype(float)

    def scores(self, rng: np.random.Generator) -> np.ndarray:
        """(S, N) pseudo-values of one study."""
        made = [corpus.pseudo_values("bleu", one) for one in self.sums(rng, self.seeds, self.examples)]
        return np.stack([one.values for one in made if one is not None])

    def truth(self, rng: np.random.Generator) -> float:
        """The mean over seeds of BLEU on endlessly many examples."""
        made = [corpus.bleu(self.sums(rng, 100, 5_000).sum(axis=1)).mean() for _ in range(20)]
        return float(np.mean(made))

    def coverage(self, repetitions: int) -> float:
        """The share of intervals that hold the truth."""
        rng = np.random.default_rng([self.seeds, self.examples, round(100 * self.luck)])
        truth = self.truth(rng)
        cells = [intervals.cell(self.scores(rng)) for _ in range(repetitions)]
        return float(np.mean([cell.low <= truth <= cell.high for cell in cells]))


@pytest.mark.slow
@pytest.mark.parametrize("luck", [0.02, 0.15])
@pytest.mark.parametrize("examples", [277, 872])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_bleu_cover(seeds: int, examples: int, luck: float) -> None:
    low, high = PROMISED[seeds]
    assert low <= Texts(seeds, examples, luck).coverage(1000) <= high


def test_intervals_of_bleu_cover_in_a_few_studies() -> None:
    """Of 200 intervals that hold 95 %, 90 % to 99 % do but for one time in a thousand."""
    assert 0.9 <= Texts(5, 277, 0.15).coverage(200) <= 0.99
