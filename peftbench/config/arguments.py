"""Words of a command line that aren't Hydra's: `--config-dir DIR`, and a command's own `key=value`."""

from collections.abc import Sequence
from pathlib import Path

from peftbench.errors import ConfigError, nearest

#: How a folder of the user's own configurations is given.
FOLDERS = ("--config-dir", "-cd")


def config_dirs(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """Take `--config-dir DIR` out of the arguments."""
    rest, folders = [], []
    words = iter(arguments)
    for word in words:
        option, _, value = word.partition("=")
        if option not in FOLDERS:
            rest.append(word)
            continue
        folder = Path(value or next(words, ""))
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: there is no such folder")
        folders.append(folder)
    return rest, folders


def options(command: str, arguments: Sequence[str], **others: str) -> dict[str, str]:
    """`key=value` arguments of a command over the defaults, or the results folder alone.

    Args:
        others: defaults of the command's keys beside `results_dir`.
    """
    values = {"results_dir": "results", **others}
    for argument in arguments:
        if len(arguments) == 1 and not argument.startswith("-") and ("=" not in argument or Path(argument).is_dir()):
            return {"results_dir": argument}
        key, separator, value = argument.partition("=")
        if not separator or key not in values:
            raise ConfigError(f"{command}: {argument}: {nearest(key, [f'{name}=' for name in values])}")
        values[key] = value
    return values
