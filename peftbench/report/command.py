"""`peftbench report`: every renderer over the records of one folder."""

import gc
import importlib
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from peftbench import report
from peftbench.errors import ConfigError, nearest
from peftbench.report import load, render_markdown, stats


def main(arguments: Sequence[str]) -> int:
    """Write all leaderboards into the results folder and print the scores."""
    root = Path(options("report", arguments)["results_dir"])
    if not root.is_dir():
        raise ConfigError(f"results_dir={root}: there is no such folder; a run makes it")
    gc.disable()  # A thousand records are a million small objects that all stay: collecting costs a fifth of the time.
    results = load.load(root)
    board = stats.leaderboard(results)
    written = [_write(root / module.FILE, module.render(board)) for module in renderers()]
    print(render_markdown.scores(board) if board.rows else "No completed runs yet.")
    for file, reason in board.unreadable:
        print(f"{file}: no record ({reason})")
    print(f"\n{len(results.completed)} completed, {len(results.failed)} failed: {', '.join(map(str, written))}")
    return 0


def renderers() -> list[ModuleType]:
    """The modules `render_*` of this package: a new format is one file with FILE and `render(board)`."""
    names = [m.name for m in pkgutil.iter_modules(report.__path__) if m.name.startswith("render_")]
    return [importlib.import_module(f"{report.__name__}.{name}") for name in names]


def options(command: str, arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments of a command over the defaults, or the results folder alone."""
    found = {"results_dir": "results"}
    for argument in arguments:
        if len(arguments) == 1 and not argument.startswith("-") and ("=" not in argument or Path(argument).is_dir()):
            return {"results_dir": argument}
        key, separator, value = argument.partition("=")
        if not separator or key not in found:
            raise ConfigError(f"{command}: {argument}: {nearest(key, [f'{name}=' for name in found])}")
        found[key] = value
    return found


def _write(file: Path, text: str) -> Path:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise ConfigError(f"results_dir={file.parent}: can't be written ({error.strerror})") from None
    return file
