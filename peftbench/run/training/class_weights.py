"""Weights of the training loss by class."""

import torch

from peftbench.config.types import RunConfig
from peftbench.data.encode import Encoded


def class_weights(config: RunConfig, train: Encoded) -> torch.Tensor | None:
    """(classes,) weights of an example's loss by its label, as `recipe.class_weights` says; None: all weigh 1."""
    if config.recipe.class_weights is None:
        return None
    return balanced(train.labels, len(config.dataset.labels or []))


def balanced(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(classes,) n / (K n_c), with n_c of (n,) labels in class c and K classes that occur: every class has the same
    weight in all, and the mean over examples is 1. A class that doesn't occur weighs 0.

    Source: King and Zeng, Political Analysis 9 (2001) 137, section 4.2, as scikit-learn's `balanced`.
    """
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (counts.count_nonzero() * counts.clamp(min=1)), 0.0).float()
