"""Counts the weights of methods on models of published shapes, without weights: on the meta device GPT-3 takes no
memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from peftbench.config.types import RunConfig
from peftbench.errors import NotApplicable
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import backbones, parameters
from peftbench.models.checkpoints import Checkpoint
from peftbench.results.reproduction import counts
from peftbench.system.process_group import Emit
from peftbench.tasks.table import build as build_task


def count(runs: Sequence[tuple[Mapping[str, Any], RunConfig]], emit: Emit) -> None:
    """Emits as `result`, in a process of its own, the counts of every row; None where its method can't be built so."""
    emit({"result": [_tried(row, run) for row, run in runs]})


def _tried(row: Mapping[str, Any], run: RunConfig) -> dict[str, int] | None:
    try:
        return of(row, run)
    except (NotApplicable, RuntimeError):
        return None


def of(row: Mapping[str, Any], run: RunConfig) -> dict[str, int]:
    """Weights of a row's method on a model of the row's shape.

    Args:
        run: what `counts.words(row)` composes.

    Raises:
        NotApplicable, RuntimeError: the method reads values that aren't there.
    """
    if run.model.family == "decoder":
        run.formulation = "verbaliser"  # A language model, as published, without a head.
    run.model.config, times = counts.shape(row)
    task = build_task(run)
    empty = backbones.build_empty(run.model, Checkpoint(None, ""), task)
    with torch.device(row.get("make_on", "meta")):
        adapted = build(run.method).apply(empty, Context(run.model, task, 100, 0, list))
    counted = parameters.count(adapted, run.model.head)
    return {kind: size * times for kind, size in counted.items() if size is not None}
