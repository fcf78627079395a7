"""Training that weighs classes by their frequency, against scikit-learn and against a weighted loss of torch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from peftbench.errors import ConfigError
from peftbench.run.training.class_weights import balanced, class_weights
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built

WEIGHTED = "recipe.class_weights=balanced"
#: An odd number: the classes aren't equally frequent.
ODD = "recipe.train_samples=31"


@pytest.mark.parametrize("seed", range(5))
def test_balanced_is_scikit_learns(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(4, 50, p=[0.7, 0.2, 0.07, 0.03])
    present = np.unique(labels)
    weights = balanced(torch.tensor(labels), 5)
    assert weights[present].tolist() == pytest.approx(
        compute_class_weight("balanced", classes=present, y=labels).tolist()
    )
    assert weights[[k for k in range(5) if k not in present]].count_nonzero() == 0
    assert float(weights[labels].mean()) == pytest.approx(1)


@pytest.mark.parametrize("formulation", ["head", "verbaliser"])
def test_the_loss_of_a_step_is_the_weighted_one(cell: Callable, formulation: str) -> None:
    built = Built(cell(WEIGHTED, ODD, f"formulation={formulation}"))
    tuner, batch = built.tuner, next(iter(built.data.train_dataloader()))
    tuner.class_weights = class_weights(built.cell.config, built.data.train)
    counts = built.data.train.labels.bincount()
    assert counts[0] != counts[1]
    assert tuner.class_weights.tolist() == pytest.approx((counts.sum() / (2 * counts)).tolist())
    tuner.eval()
    with torch.no_grad():
        logits = tuner.task.logits(tuner(batch), batch)
        losses = tuner._weighted(tuner.task.losses(tuner(batch), batch), batch)
    right = F.cross_entropy(logits, batch["labels"], weight=tuner.class_weights, reduction="none")
    torch.testing.assert_close(losses, right)


def test_weights_change_what_is_trained_and_the_key(train: Callable) -> None:
    plain, weighted = train("method=full", ODD), train("method=full", ODD, WEIGHTED)
    assert plain.key != weighted.key
    assert plain.metrics["validation"]["loss"] != weighted.metrics["validation"]["loss"]


@pytest.mark.parametrize(
    "words",
    [
        ["dataset=stsb"],
        ["dataset=copa"],
        ["dataset=sst2", "model=tiny_t5", "formulation=text"],
        ["dataset=mixture", "dataset.parts=[sst2,rte]"],
    ],
)
def test_without_a_loss_by_class_it_is_refused(words: list[str]) -> None:
    from tests.helpers.composed import composed

    config = composed(["model=tiny_bert", *words, WEIGHTED])
    with pytest.raises(ConfigError, match="recipe.class_weights=balanced: .* has no loss by class"):
        build_task(config)
