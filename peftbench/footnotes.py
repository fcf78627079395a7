"""What a reader of a score must know: shown wherever the score is."""

from peftbench.checkpoints import Checkpoint
from peftbench.data import sources
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.mixture import MixtureDataModule
from peftbench.data.repeats import Repeats
from peftbench.data.sources import DataSource
from peftbench.metrics import text
from peftbench.schema import RunConfig
from peftbench.tasks.shared import hidden
from peftbench.tasks.text import questions


def footnotes(
    config: RunConfig, source: DataSource, checkpoint: Checkpoint, data: TaskDataModule, *, trains: bool = True
) -> list[str]:
    """Differences between what was trained and scored on and the official data, where the model started, and what the
    method says of itself.

    Args:
        trains: whether the method trains anything; where it doesn't, nothing is said of training.
    """
    if isinstance(data, MixtureDataModule):
        parts = [(source.parts[module.config.dataset.name], module) for module in data.modules]
        found = [note for of, module in parts for note in _of_data(of, module, trains)]
    else:
        found = _of_data(source, data, trains)
    found += [note for name in data.repeats for note in _repeated(config, name, data.repeats[name])]
    if checkpoint.start is not None and checkpoint.start.record is not None:
        before = checkpoint.start.record
        of = " on ".join(before.config[group]["name"] for group in ("method", "dataset"))
        found.append(f"{config.dataset.name}: {config.model.name} starts from a run of {of} ({before.key})")
    if config.method.footnote is not None:
        found.append(f"{config.method.name}: {config.method.footnote}")
    if trains and config.recipe.selection == "best_on_validation":
        splits = ", ".join(data.headline)
        found.append(f"{config.dataset.name}: the step was chosen on {splits}, the split that is scored")
    return found


def _repeated(config: RunConfig, name: str, repeats: Repeats) -> list[str]:
    """That an evaluation split was trained on, in part or all of it.

    Args:
        name: of the slice: the split's, in a mixture behind its part's.
    """
    if not repeats.folded:
        return []
    part, _, split = name.rpartition("/")
    own = next((each for each in config.dataset.parts or [] if each.name == part), config.dataset)
    trained = " (the split that was trained on)" if split == own.train else ""
    rows = f"{repeats.folded} of {repeats.scored} scored rows of {split}{trained}"
    how = "word for word" if repeats.exact == repeats.folded else f"{repeats.exact} of them word for word"
    return [f"{own.name}: {rows} are among the rows trained on, up to case and white space ({how})"]


def _of_data(source: DataSource, data: TaskDataModule, trains: bool) -> list[str]:
    dataset, method = data.config.dataset, data.config.method
    name, found = dataset.name, []
    for split in sources.wanted_splits(dataset):
        if split == dataset.train and method.reads_train is False and split not in dataset.evaluation:
            continue
        official = dataset.rows.get(split)
        if split not in source.files:
            found.append(f"{name}: the data has no {split}")
            continue
        rows = sources.count(source, split)
        if official is not None and rows != official:
            found.append(f"{name}: {split} has {rows} rows, the official one {official}")
        scored = data.slices.get(split)
        if scored is None or split == dataset.train:
            continue
        if hidden(scored):
            found.append(f"{name}: the labels of {split} are hidden; its predictions are kept and not scored")
            continue
        if scored.references is not None:
            _, right = questions([""] * len(scored), scored)
            found += [f"{name}: {note}" for note in text.notes(dataset.metrics, right)]
        if len(scored.rows.unique()) < rows:
            found.append(f"{name}: scored on {len(scored.rows.unique())} of {rows} rows of {split}")
    if method.reads_train is False:
        return found
    available = sources.count(source, dataset.train)
    trained = len(data.train.rows.unique())
    if trained + data.carved < available:
        did = "trained on" if trains else f"{method.name} looked at"
        found.append(f"{name}: {did} {trained} of {available} rows of {dataset.train}")
    recipe = data.config.recipe
    if recipe.shots is not None:
        found.append(f"{name}: {recipe.shots} training examples a class, drawn with seed {recipe.shots_seed}")
    return found
