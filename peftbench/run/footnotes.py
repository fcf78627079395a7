"""Footnotes: what a reader of a score must know. They are shown wherever the score is."""

from collections.abc import Iterator

from peftbench.config.types import RunConfig
from peftbench.data import sources
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.mixture import MixtureDataModule
from peftbench.data.sources import DataSource
from peftbench.models.checkpoints import Checkpoint
from peftbench.tasks.metrics import texts
from peftbench.tasks.text import questions


def footnotes(
    config: RunConfig, source: DataSource, checkpoint: Checkpoint, data: TaskDataModule, *, trains: bool = True
) -> list[str]:
    """Footnotes on how the data differ from the official ones, where the model started, and the method's own.

    Args:
        trains: False: the method trains nothing, and there is no footnote on training.
    """
    if isinstance(data, MixtureDataModule):
        parts = [(source.parts[module.config.dataset.name], module) for module in data.modules]
        notes = [note for part, module in parts for note in _of_data(part, module, trains)]
        notes += [note for module in data.held_out for note in _of_held_out(module)]
    else:
        notes = _of_data(source, data, trains)
    if checkpoint.start is not None and checkpoint.start.record is not None:
        before = checkpoint.start.record
        what = " on ".join(before.config[group]["name"] for group in ("method", "dataset"))
        notes.append(f"{config.dataset.name}: {config.model.name} starts from a run of {what} ({before.key})")
    if config.method.footnote is not None:
        notes.append(f"{config.method.name}: {config.method.footnote}")
    if trains and config.recipe.selection == "best_on_validation":
        splits = ", ".join(data.headline)
        notes.append(f"{config.dataset.name}: the step was chosen on {splits}, the split that is scored")
    return notes


def _of_data(source: DataSource, data: TaskDataModule, trains: bool) -> list[str]:
    """Footnotes on one data set: the splits that are scored, then the one that is trained on."""
    dataset, method = data.config.dataset, data.config.method
    notes: list[str] = []
    for split in sources.wanted_splits(dataset):
        if split == dataset.train and method.reads_train is False and split not in dataset.evaluation:
            continue
        notes += [f"{dataset.name}: {note}" for note in _of_split(split, source, data)]
    if method.reads_train is not False:
        notes += [f"{dataset.name}: {note}" for note in _of_training(source, data, trains)]
    return notes


def _of_held_out(data: TaskDataModule) -> Iterator[str]:
    """Footnotes on a data set that isn't trained on."""
    dataset = data.config.dataset
    yield f"{dataset.name}: held out, not trained on; its scores aren't part of the run's"
    for split in dataset.evaluation:
        yield from (f"{dataset.name}: {note}" for note in _of_split(split, data.source, data))


def _of_split(split: str, source: DataSource, data: TaskDataModule) -> Iterator[str]:
    """Sentences on how a split differs from the official one, and what of it is scored."""
    dataset = data.config.dataset
    official = dataset.rows.get(split)
    if split not in source.files:
        yield f"the data has no {split}"
        return
    rows = sources.count(source, split)
    if official is not None and rows != official:
        yield f"{split} has {rows} rows, the official one {official}"
    scored = data.slices.get(split)
    if scored is None or split == dataset.train:
        return
    if scored.hidden:
        yield f"the labels of {split} are hidden; its predictions are kept and not scored"
        return
    if scored.references is not None:
        _, references = questions([""] * len(scored), scored)
        yield from texts.notes(dataset.metrics, references)
    if len(scored.rows.unique()) < rows:
        yield f"scored on {len(scored.rows.unique())} of {rows} rows of {split}"


def _of_training(source: DataSource, data: TaskDataModule, trains: bool) -> Iterator[str]:
    """Sentences on how much of the training split was used."""
    dataset, recipe = data.config.dataset, data.config.recipe
    available = sources.count(source, dataset.train)
    trained = len(data.train.rows.unique())
    if trained + data.carved < available:
        did = "trained on" if trains else f"{data.config.method.name} looked at"
        yield f"{did} {trained} of {available} rows of {dataset.train}"
    if recipe.shots is not None:
        yield f"{recipe.shots} training examples a class, drawn with seed {recipe.shots_seed}"
