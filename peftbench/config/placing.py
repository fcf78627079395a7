"""A model whose checkpoint is said on the command line: a name on the hub, or a folder."""

from pathlib import Path
from typing import Any

from peftbench.errors import ConfigError

_KEY = "model.checkpoint"
#: What a path may begin with, and a name on the hub can't.
_PATHS = ("/", "~", "./", "../")


def place(model: dict[str, Any], changed: list[str]) -> None:
    """Put a checkpoint's folder in a field of its own, so that a record has the folder's name and no path; and leave
    out what the model's file says of another checkpoint.

    Args:
        model: the plain values of `ModelConfig`.
        changed: what the command line sets; a path among them becomes a name.

    Raises:
        ConfigError: it is written as a path, and there is no such folder.
    """
    name = model.get("checkpoint")
    set_here = [i for i, word in enumerate(changed) if word.lstrip("+").partition("=")[0] == _KEY]
    if not isinstance(name, str) or not name:
        return
    is_path = name.startswith(_PATHS) or name in (".", "..")
    if not is_path and not set_here:
        return
    folder = _expanded(name)
    others = {"package": None, "revision": None, "config": None}
    also_set = {word.lstrip("+").partition("=")[0].removeprefix("model.") for word in changed}
    model |= {key: value for key, value in others.items() if key in model and key not in also_set}
    if not is_path and not folder.is_dir():
        return
    if not folder.is_dir():
        raise ConfigError(f"{_KEY}={name}: there is no such folder")
    model |= {"folder": str(folder), "checkpoint": folder.name}
    for i in set_here:
        changed[i] = f"{_KEY}={folder.name}"


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except RuntimeError:
        raise ConfigError(f"{_KEY}={name}: there is no such user's home; allowed is a folder") from None
