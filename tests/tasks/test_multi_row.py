"""Rows that are scored together: drawn whole, and answered by the likeliest of them."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.built import Built


class TestMultiRow:
    def test_questions_are_drawn_whole(self, made, hub_root: Path) -> None:
        case = Built(made("dataset=multirc", "method=full", "recipe.eval_samples=10"))
        for name in ("selection", "validation"):
            rows = case.data.slices[name].rows.tolist()
            assert len(rows) % 4 == 0
            assert len(rows) <= 10
            assert all({4 * (row // 4) + k for k in range(4)} <= set(rows) for row in rows)

    def test_a_querys_answer_is_its_likeliest_candidate(self, made) -> None:
        case = Built(made("dataset=record", "method=full"))
        examples = case.data.slices["validation"]
        right = examples.labels.numpy()
        perfect = np.stack([1.0 - right, right], axis=1) + np.random.default_rng(0).normal(0, 0.01, (len(right), 2))
        assert case.task.score(perfect, examples) == {"record_f1": 1.0, "record_em": 1.0}
        assert case.task.score(-perfect, examples)["record_em"] == 0.0

    def test_em_wants_every_answer_of_a_question(self, made) -> None:
        case = Built(made("dataset=multirc", "method=full"))
        examples = case.data.slices["validation"]
        right = examples.labels.numpy()
        logits = np.stack([1.0 - right, right], axis=1)
        assert case.task.score(logits, examples) == {"f1a": 1.0, "em": 1.0}
        logits[0] = logits[0][::-1]
        assert case.task.score(logits, examples)["em"] == pytest.approx(1 - 1 / 6)
