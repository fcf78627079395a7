"""Words of a command line that aren't Hydra's: `--config-dir DIR`, and a command's own `key=value`."""

from collections.abc import Mapping, Sequence
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


def options(command: str, arguments: Sequence[str], **further: str) -> dict[str, str]:
    """`key=value` arguments of a command over the defaults; the first may be the results folder alone.

    Args:
        further: the defaults of the keys that the command has beside `results_dir`.
    """
    values = {"results_dir": "results", **further}
    for argument in arguments:
        alone = argument == arguments[0] and (bool(further) or len(arguments) == 1)
        if alone and not argument.startswith("-") and ("=" not in argument or Path(argument).is_dir()):
            values["results_dir"] = argument
            continue
        key, separator, value = argument.partition("=")
        if not separator or key not in values:
            raise ConfigError(f"{command}: {argument}: {nearest(key, [f'{name}=' for name in values])}")
        values[key] = value
    return values


def switch(values: Mapping[str, str], key: str) -> bool:
    """A command's key that is true or false. Raises ConfigError for another value."""
    if values[key] not in ("true", "false"):
        raise ConfigError(f"{key}={values[key]}: allowed is true or false")
    return values[key] == "true"
