"""What may stand in a logging configuration, which Python builds by dotted path: handlers that write to the terminal,
or to .log files in the results folder."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from peftbench.errors import ConfigError

_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_FORMATTERS = ("logging.Formatter", "colorlog.ColoredFormatter")
_ON_TERMINAL = ("logging.StreamHandler", "logging.NullHandler", "rich.logging.RichHandler")
_IN_FILES = (
    "logging.FileHandler",
    "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
    "logging.handlers.WatchedFileHandler",
)
_LOGGER = ("level", "handlers", "propagate", "filters")
#: By section the keys of its parts, as `logging.config` names them. What isn't here ("()" in a handler, ".", its
#: other arguments) can name code, a server or a file.
_PARTS = {
    "formatters": ("format", "datefmt", "class", "()", "log_colors", "validate"),
    "filters": ("name",),
    "handlers": (
        *("class", "formatter", "level", "filters", "stream", "filename", "mode", "encoding", "delay"),
        *("maxBytes", "backupCount", "when", "interval", "utc", "rich_tracebacks", "markup", "show_path", "show_time"),
    ),
    "loggers": _LOGGER,
}
_SETTINGS = ("version", "disable_existing_loggers", "incremental")
#: Hydra knows a job's folder when it starts; it lies in the results folder.
_IN_JOB = re.compile(r"\$\{hydra[.:](?:runtime\.output_dir|run\.dir|sweep\.dir)\}/")


def check(key: str, logging: Any, inside: Callable[[str], bool]) -> None:
    """Raises ConfigError for the first thing that isn't allowed.

    Args:
        logging: as written, unresolved.
        inside: whether a file lies in the results folder.
    """
    for section, value in _mapping(key, logging).items():
        where = f"{key}.{section}"
        if section in _SETTINGS:
            _check_value(where, value)
        elif section == "root":
            _check_part(where, value, _LOGGER, inside)
        elif section in _PARTS:
            for name, part in _mapping(where, value).items():
                _check_part(f"{where}.{name}", part, _PARTS[section], inside)
        else:
            raise ConfigError(f"{where}: no such key; allowed are {', '.join((*_SETTINGS, 'root', *_PARTS))}")


def _check_part(key: str, part: Any, allowed: tuple[str, ...], inside: Callable[[str], bool]) -> None:
    for name, value in _mapping(key, part).items():
        where = f"{key}.{name}"
        if name not in allowed:
            raise ConfigError(f"{where}={value}: allowed are {', '.join(allowed)}")
        if name in ("class", "()"):
            classes = (*_ON_TERMINAL, *_IN_FILES) if "handlers" in key.split(".") else _FORMATTERS
            if value not in classes:
                raise ConfigError(f"{where}={value}: allowed are {', '.join(classes)}")
        elif name == "stream":
            if value not in _STREAMS:
                raise ConfigError(f"{where}={value}: allowed are {', '.join(_STREAMS)}")
        elif name == "filename":
            _check_file(where, value, inside)
        else:
            _check_value(where, value)


def _check_file(key: str, value: Any, inside: Callable[[str], bool]) -> None:
    """Raises ConfigError unless a handler's file is a log within the results folder: a handler can empty its file."""
    file = _IN_JOB.sub("", str(value), count=1)
    below = file != str(value)
    leads_out = ".." in file.split("/") or (below and file.startswith("/"))
    if not file.endswith(".log") or leads_out or not (below or inside(file)):
        raise ConfigError(f"{key}={value}: allowed is a .log file within results_dir")


def _check_value(key: str, value: Any) -> None:
    """`logging.config` imports what a text names that begins with ext://."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            _check_value(f"{key}.{name}", part)
    elif isinstance(value, list):
        for part in value:
            _check_value(key, part)
    elif isinstance(value, str) and re.match(r"\w+://", value):
        raise ConfigError(f"{key}={value}: allowed is text that names nothing to import")


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}={value}: allowed is a dictionary")
    return value
