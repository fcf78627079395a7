"""`evaluate.load`-able module of `functions.f1`."""

from typing import Any

import evaluate
import numpy as np

from peftbench.metrics import functions, module


class F1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return module.info("f1")

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"f1": functions.f1(np.asarray(predictions), np.asarray(references))}
