"""What the metric modules share: the description that `evaluate` asks for."""

import datasets
import evaluate

from peftbench.metrics import functions


def info(name: str) -> evaluate.MetricInfo:
    """Description and input types of a metric over integer labels."""
    return evaluate.MetricInfo(
        description=str(getattr(functions, name).__doc__),
        citation="GLUE, arXiv 1804.07461",
        inputs_description="predictions, references: integer labels, one an example.",
        features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
    )
