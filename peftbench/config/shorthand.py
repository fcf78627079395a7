"""What may be written shorter in a data set's configuration: a text for a list of one, a metric by its name."""

import dataclasses
from typing import Any

from peftbench.config.dataset_types import AS_METRIC, DatasetConfig

#: The fields that are lists of texts.
_LISTS = [f.name for f in dataclasses.fields(DatasetConfig) if "list[str]" in str(f.type)]


def written_out(raw: dict[str, Any]) -> dict[str, Any]:
    """A data set's configuration as it is composed, with its short forms written out."""
    full = {**raw, **{key: [raw[key]] for key in _LISTS if _is_single(raw.get(key))}}
    metrics = raw.get("metrics")
    if _is_single(metrics):
        metrics = [metrics]
    if isinstance(metrics, list):
        full["metrics"] = {str(name): AS_METRIC for name in metrics}
    return full


def _is_single(value: Any) -> bool:
    return value is not None and not isinstance(value, list | dict)
