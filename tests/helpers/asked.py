"""Overrides of runs that are asked what was forgotten, and made-up questions laid out like the hub's."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import compose, types
from tests.helpers.runs import write_split

TASK = [
    "model=tiny_llama",
    "dataset=demo",
    "formulation=verbaliser",
    "recipe.train_samples=16",
    "recipe.eval_samples=8",
]
#: Short prompts, so that bytes fit a tiny model's positions.
MMLU = [
    "forgetting=mmlu",
    "forgetting.mmlu.parts=[anatomy,astronomy]",
    "forgetting.mmlu.shots=1",
    "forgetting.mmlu.examples=6",
]
BOTH = [
    *MMLU,
    "forgetting=mmlu_bbh",
    "forgetting.bbh.parts=[boolean_expressions]",
    "forgetting.bbh.examples=4",
    "forgetting.bbh.max_new_tokens=3",
]


def _questions(count: int, seed: int) -> dict[str, list[Any]]:
    draw = random.Random(seed)
    word = lambda: "".join(draw.choices("abcdefgh", k=draw.randint(2, 6)))  # noqa: E731
    return {
        "question": [f" What is {word()}? " for _ in range(count)],
        "choices": [[word() for _ in range(4)] for _ in range(count)],
        "answer": [draw.randrange(4) for _ in range(count)],
        "subject": [("anatomy", "astronomy", "virology")[i % 3] for i in range(count)],
    }


@pytest.fixture(scope="module")
def asked_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MMLU as one set, BBH as a config a task."""
    root = tmp_path_factory.mktemp("asked")
    for split, count in (("test", 30), ("dev", 6)):
        write_split(root / "mmlu" / "all", split, _questions(count, seed=count))
    rows = {"input": ["not True is", "True and False is"] * 4, "target": ["False"] * 8}
    write_split(root / "bbh" / "boolean_expressions", "test", rows)
    return root


@pytest.fixture
def composed(asked_root: Path, results: Path) -> Callable[..., types.RunConfig]:
    """Composes a run on the made-up questions."""

    def of(*more: str) -> types.RunConfig:
        return compose.one([*TASK, f"data_root={asked_root}", f"results_dir={results}", *more])

    return of
