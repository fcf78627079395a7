"""Made-up studies whose truth is known: seeds with luck, examples of their own difficulty, and an interaction."""

from dataclasses import dataclass

import numpy as np

from peftbench.results.statistics import jackknife


@dataclass(frozen=True)
class Study:
    """Runs of one method.

    Attributes:
        luck: deviation of seeds, in logits (of Pearson's noise: in its logarithm).
    """

    metric: str
    seeds: int
    examples: int
    luck: float

    def scores(self, rng: np.random.Generator, *, seeds: int = 0, examples: int = 0) -> np.ndarray:
        """(S, N) pseudo-values of one study."""
        seeds, examples = seeds or self.seeds, examples or self.examples
        answers, labels = self._answers(rng, seeds, examples)
        groups = np.arange(examples)
        return np.stack([jackknife.METRICS[self.metric](row, labels, groups).values for row in answers])

    def truth(self, rng: np.random.Generator) -> float:
        """The mean over seeds of the metric on endlessly many examples."""
        groups, values = np.arange(10_000), []
        for _ in range(20):  # Other examples each time: 20 times as many seeds alone would leave these examples' error.
            answers, labels = self._answers(rng, 100, 10_000)
            values.append(np.mean([jackknife.METRICS[self.metric](row, labels, groups).whole for row in answers]))
        return float(np.mean(values))

    def _answers(self, rng: np.random.Generator, seeds: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
        luck = self.luck * rng.normal(size=(seeds, 1))
        if self.metric == "pearson":
            labels = rng.normal(size=examples)
            noise = 0.8 * rng.normal(size=examples) + 0.5 * rng.normal(size=(seeds, examples))
            return labels + np.exp(luck) * noise, labels
        labels = (rng.random(examples) < 0.4).astype(int)
        right = rng.random((seeds, examples)) < 1 / (1 + np.exp(-(1.4 + luck + 1.8 * rng.normal(size=examples))))
        return np.where(right, labels, 1 - labels), labels


def equal_methods(rng: np.random.Generator, methods: int, seeds: int, examples: int, luck: float) -> list[np.ndarray]:
    """(S, N) right or wrong answers of methods that are equally good, each with examples it finds hard."""
    difficulty = 1.5 * rng.normal(size=examples)
    made = []
    for _ in range(methods):
        logits = 0.9 + luck * rng.normal(size=(seeds, 1)) + difficulty + 0.7 * rng.normal(size=examples)
        made.append((rng.random((seeds, examples)) < 1 / (1 + np.exp(-logits))).astype(float))
    return made
