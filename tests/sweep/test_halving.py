"""Trials that are ended early by successive halving."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.config.compose import canonical  # noqa: F401
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore

pytest.importorskip("optuna", reason="the extra tune isn't installed")
Run = Callable[..., tuple[int, str, str]]

#: A file's own rate, or one that nothing is learnt with; the first trial has the former.
LINE = (
    "model=tiny_bert",
    "dataset=demo",
    "method=full",
    "recipe.epochs=1",
    "recipe.max_steps=8",
    "recipe.eval_steps=1",
    "recipe.batch_size=8",
    "recipe.eval_samples=64",
    "measure=false",
    "tune=4",
    "tune_halving={examples: 16, factor: 2}",
)


def trials(results: Path) -> dict[str, RunRecord]:
    return {r.key: r for _, r in ResultStore(results / "trials").scan() if isinstance(r, RunRecord)}
