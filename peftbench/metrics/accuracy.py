"""`evaluate.load`-able module of `functions.accuracy`."""

from typing import Any

import evaluate
import numpy as np

from peftbench.metrics import functions, module


class Accuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return module.info("accuracy")

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": functions.accuracy(np.asarray(predictions), np.asarray(references))}
