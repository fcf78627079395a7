"""`evaluate.load`-able module of `functions.matthews`."""

from typing import Any

import evaluate
import numpy as np

from peftbench.metrics import functions, module


class Matthews(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return module.info("matthews")

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"matthews": functions.matthews(np.asarray(predictions), np.asarray(references))}
