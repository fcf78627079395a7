"""The configuration of a mixture of data sets: its parts' files, and what follows from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peftbench.config import paths
from peftbench.errors import ConfigError, exact, nearest

TASK = "mixture"

#: Keys of a mixture that say how its examples are put as text.
_OF_TEXT = ("template_seed", "chat", "held_out", "held_out_shots")


def expand(
    mixture: dict[str, Any], *, folders: Sequence[Path], read: Callable[[Path], dict[str, Any]], as_text: bool = False
) -> dict[str, Any]:
    """A mixture whose parts are names, with the parts' own configurations and what is made of them.

    Args:
        folders: further folders laid out like conf/.
        read: gives a YAML file's content.
        as_text: whether its answers are written: by the parts' `templates`, which other runs don't have.

    Raises:
        ConfigError: a part is no data set, is a mixture itself, or the parts can't be scored together.
    """
    _check_text(mixture, as_text)
    if "carve" in mixture:
        raise ConfigError("dataset.carve: a mixture has none; each part's rows are carved as its own file says")
    names = _named(mixture.get("parts"), folders)
    if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) < len(names):
        raise ConfigError(f"dataset.parts={names}: allowed is a list of two or more different data sets")
    weighted = mixture.get("mixing") == "temperature"
    if weighted is (mixture.get("temperature") is None):
        raise ConfigError("dataset.temperature: goes with dataset.mixing=temperature, and only with that")
    parts = [_part(str(name), folders, read, as_text) for name in names]
    held_out = [_part(str(name), folders, read, as_text) for name in _held_out(mixture, names, folders)]
    every = [*parts, *held_out]
    metrics = {name: direction for part in every for name, direction in part["metrics"].items()}
    lengths = [part["max_length"] for part in every if part.get("max_length")]
    return {
        **mixture,
        **({"held_out": held_out} if held_out else {}),
        **({"max_length": max(lengths)} if lengths else {}),
        "name": "+".join(map(str, names)).replace("/", "_"),
        "parts": parts,
        "text": [],
        "labels": [f"{part['name']}: {label}" for part in parts for label in part.get("labels") or []],
        "train": parts[0]["train"],
        "evaluation": [f"{part['name']}/{split}" for part in parts for split in part["evaluation"]],
        **({"carve": parts[0]["carve"]} if "carve" in parts[0] else {}),
        "rows": {f"{part['name']}/{split}": count for part in parts for split, count in part["rows"].items()},
        "metrics": metrics,
    }


def _named(names: Any, folders: Sequence[Path]) -> Any:
    """The parts' names in the case in which their files are called."""
    files = list(paths.choice_files("dataset", folders))
    return [exact(str(name), files) for name in names] if isinstance(names, list) else names


def take_templates(dataset: dict[str, Any], overrides: Sequence[str]) -> None:
    """Take a data set's `templates` out of it: only a mixture that is written as text reads them, of its parts' files,
    and what decides nothing isn't a part of a run's key.

    Raises:
        ConfigError: the command line sets them.
    """
    if any(override.lstrip("+~").startswith("dataset.templates") for override in overrides):
        raise ConfigError("dataset.templates: are read of the files of a mixture's parts, with formulation=text")
    dataset.pop("templates", None)


def _check_text(mixture: dict[str, Any], as_text: bool) -> None:
    """Raises ConfigError for a key of text where answers aren't written, or for shots of no held-out set."""
    for key in _OF_TEXT:
        if mixture.get(key) is not None and not as_text:
            raise ConfigError(f"dataset.{key}: goes with formulation=text, and only with that")
    if mixture.get("held_out_shots") is not None and not mixture.get("held_out"):
        raise ConfigError("dataset.held_out_shots: goes with dataset.held_out, the data sets that are scored so")


def _held_out(mixture: dict[str, Any], trained: Sequence[Any], folders: Sequence[Path]) -> list[Any]:
    """The names of the data sets that are scored and not trained on."""
    written = mixture.get("held_out")
    names = _named(written, folders)
    if names is None:
        return []
    if not isinstance(names, list) or not names or len(set(names)) < len(names):
        raise ConfigError(f"dataset.held_out={written}: allowed is a list of one or more different data sets")
    both = sorted({str(name) for name in names} & {str(name) for name in trained})
    if both:
        raise ConfigError(f"dataset.held_out: {', '.join(both)} is trained on too (dataset.parts)")
    return names


def _part(name: str, folders: Sequence[Path], read: Callable[[Path], dict[str, Any]], as_text: bool) -> dict[str, Any]:
    files = paths.choice_files("dataset", folders)
    if name not in files:
        raise ConfigError(f"dataset.parts: {name} is no data set; {nearest(name, sorted(files))}")
    config = read(files[name])
    if config.get("task") == TASK or "defaults" in config:
        raise ConfigError(f"dataset.parts: {name} can't be a part: it is made of other files itself")
    if not as_text:
        config = {key: value for key, value in config.items() if key != "templates"}
    return {**config, "name": name}
