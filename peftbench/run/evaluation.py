"""Predictions of every slice of a run's data, and the scores that are made of them."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from peftbench.data.batch import Batch, moved
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.mixture import Mixed
from peftbench.data.repeats import Repeats
from peftbench.run import outputs
from peftbench.run.training import progress
from peftbench.run.training.tuner import FineTuner, gather
from peftbench.system import files, ranks
from peftbench.system.process_group import Emit

#: By slice (split) what a record says of it; None where the data has no such split.
Metrics = dict[str, dict[str, Any] | None]
#: By slice what `FineTuner.predict` returned for each of its batches.
Predictions = dict[str, list[dict[str, Any]]]


def evaluate(
    trainer: L.Trainer,
    tuner: FineTuner,
    data: TaskDataModule,
    file: Path,
    notes: list[str],
    emit: Emit = progress.ignored,
) -> tuple[Metrics, Predictions]:
    """Score every slice of the data; the one that was selected on by the answers it was selected for, which the same
    weights would give again. All ranks must call it.

    Args:
        file: where the first rank writes the prediction of each example.
        notes: gets a footnote if the file can't be written.
        emit: gets how far it is.
    """
    known = {} if tuner.selected_answers is None else {id(data.validated): tuner.selected_answers}
    slices = {name: part for name, part in data.slices.items() if part is not None}
    loaders = {name: data.evaluation(name) for name, part in slices.items() if id(part) not in known}
    counted = progress.Counted(emit, sum(len(loader) for loader in loaders.values()))
    predictions = {
        name: predict(trainer, tuner, counted.of(loaders[name])) if name in loaders else known[id(part)]
        for name, part in slices.items()
    }
    if ranks.is_first():
        with files.spared(f"{tuner.method.config.name}: predictions", notes):
            outputs.write_predictions(file, data, predictions, tuner.task)
    directions = data.config.dataset.metrics
    metrics = {
        name: None
        if part is None
        else {
            **tuner.scores(predictions[name], part),
            **_beside(tuner, predictions[name], part),
            "directions": directions,
            "majority_fraction": majority_fraction(part),
            **rows_in_train(data.repeats.get(name)),
        }
        for name, part in data.slices.items()
    }
    return metrics, predictions


def predict(trainer: L.Trainer, tuner: FineTuner, loader: Iterable[Batch]) -> list[dict[str, Any]]:
    """`FineTuner.predict` of every batch, each on one rank; all ranks get all of them.

    Not `trainer.predict`, which takes no batch sampler of our own, nor `trainer.validate`, which would call the
    callbacks that belong to training.
    """
    device = trainer.strategy.root_device  # After fit, Lightning has moved the model to the CPU.
    tuner.to(device).eval()
    tuner.clear_generations()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        mine = (batch for index, batch in enumerate(loader) if ranks.takes(index))
        return ranks.interleaved([tuner.predict(moved(batch, device)) for batch in mine])


def _beside(tuner: FineTuner, predicted: list[dict[str, Any]], part: Encoded) -> dict[str, Any]:
    """Further metrics and how each class is answered; nulls where labels are hidden."""
    return {"also": None, "classes": None} if part.hidden else tuner.task.beside(gather(predicted), part)


def headline(splits: Sequence[dict[str, Any] | None]) -> float | None:
    """The mean score of the splits that a run is judged by; None where the labels of one are hidden."""
    scores = [split["score"] for split in splits if split is not None and split["score"] is not None]
    return statistics.fmean(scores) if len(scores) == len(splits) else None


def rows_in_train(repeats: Repeats | None) -> dict[str, int | None]:
    """The numbers of a split's scored rows that were trained on, as `metrics` has them; nulls where they weren't
    counted."""
    rows, exact, folded = (None, None, None) if repeats is None else (repeats.scored, repeats.exact, repeats.folded)
    return {"rows": rows, "rows_in_train": exact, "rows_in_train_folded": folded}


def majority_fraction(examples: Encoded) -> float | None:
    """The share of the commonest class (of choices, the commonest place): what answering it always would score. None
    where answers aren't one of several, are hidden, or are scored in groups."""
    if isinstance(examples, Mixed) and len(examples.pieces) > 1 and examples.targets is not None:
        return None  # Labels of several data sets, each with numbers of its own.
    together = examples.groups is not None or examples.references is not None
    if together or examples.hidden or examples.labels.is_floating_point():
        return None
    return int(examples.labels.unique(return_counts=True)[1].max()) / len(examples)
