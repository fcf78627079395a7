"""What the metric modules share: the description that `evaluate` asks for."""

import sys
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np

from peftbench.tasks.metrics import registry
from peftbench.tasks.metrics.scope import scope

#: Kind of metric -> what it is given of each example.
_FEATURES: dict[str, dict[str, Any]] = {
    "labels": {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")},
    "numbers": {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")},
    "texts": {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))},
}


def metric(where: str) -> type[evaluate.Metric]:
    """The class for the module `where`, named as its function; `evaluate` looks for a class that is defined there."""
    name = Path(sys.modules[where].__file__ or "").stem
    function, scored = registry.get(name), scope(name)
    columns = _FEATURES[scored.kind] | ({"groups": datasets.Value("int64")} if scored.groups else {})
    features = datasets.Features(columns)
    described = evaluate.MetricInfo(
        description=str(function.__doc__),
        citation=str(sys.modules[function.__module__].__doc__),
        inputs_description=f"{', '.join(features)}: one an example.",
        features=features,
    )

    def compute(self: Any, **columns: Any) -> dict[str, float]:
        return {
            name: function(**(columns if scored.kind == "texts" else {k: np.asarray(v) for k, v in columns.items()}))
        }

    return type(name, (evaluate.Metric,), {"_info": lambda self: described, "_compute": compute, "__module__": where})
