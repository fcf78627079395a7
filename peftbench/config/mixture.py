"""The configuration of a mixture of data sets: its parts' files, and what follows from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peftbench.config import paths
from peftbench.errors import ConfigError, exact, nearest

TASK = "mixture"


def expand(
    mixture: dict[str, Any], *, folders: Sequence[Path], read: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """A mixture whose parts are names, with the parts' own configurations and what is made of them.

    Args:
        folders: further folders laid out like conf/.
        read: gives a YAML file's content.

    Raises:
        ConfigError: a part is no data set, is a mixture itself, or the parts can't be scored together.
    """
    names = _named(mixture.get("parts"), folders)
    if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) < len(names):
        raise ConfigError(f"dataset.parts={names}: allowed is a list of two or more different data sets")
    weighted = mixture.get("mixing") == "temperature"
    if weighted is (mixture.get("temperature") is None):
        raise ConfigError("dataset.temperature: goes with dataset.mixing=temperature, and only with that")
    parts = [_part(str(name), folders, read) for name in names]
    metrics = {name: direction for part in parts for name, direction in part["metrics"].items()}
    lengths = [part["max_length"] for part in parts if part.get("max_length")]
    return {
        **mixture,
        **({"max_length": max(lengths)} if lengths else {}),
        "name": "+".join(map(str, names)).replace("/", "_"),
        "parts": parts,
        "text": [],
        "labels": [f"{part['name']}: {label}" for part in parts for label in part.get("labels") or []],
        "train": parts[0]["train"],
        "evaluation": [f"{part['name']}/{split}" for part in parts for split in part["evaluation"]],
        "carve": parts[0]["carve"],
        "rows": {f"{part['name']}/{split}": count for part in parts for split, count in part["rows"].items()},
        "metrics": metrics,
    }


def _named(names: Any, folders: Sequence[Path]) -> Any:
    """The parts' names in the case in which their files are called."""
    files = list(paths.choice_files("dataset", folders))
    return [exact(str(name), files) for name in names] if isinstance(names, list) else names


def _part(name: str, folders: Sequence[Path], read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    files = paths.choice_files("dataset", folders)
    if name not in files:
        raise ConfigError(f"dataset.parts: {name} is no data set; {nearest(name, sorted(files))}")
    config = read(files[name])
    if config.get("task") == TASK or "defaults" in config:
        raise ConfigError(f"dataset.parts: {name} can't be a part: it is made of other files itself")
    return {**config, "name": name}
