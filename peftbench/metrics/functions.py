"""Scores of predicted against true labels, both (n,) integer arrays. Each is a fraction; Matthews lies in [-1, 1]."""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """The share of labels that are right."""
    return float(accuracy_score(references, predictions))


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 of label 1, as GLUE scores MRPC and QQP; 0 where nothing is predicted or true as 1."""
    return float(f1_score(references, predictions, pos_label=1, average="binary", zero_division=0.0))


def matthews(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation, as GLUE scores CoLA; 0 for a constant prediction."""
    return float(matthews_corrcoef(references, predictions))
