"""`peftbench report`: every renderer over the records of one folder."""

import gc
import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from peftbench.config.arguments import options
from peftbench.errors import ConfigError
from peftbench.results import report
from peftbench.results.report import load, render_markdown, stats
from peftbench.system import escape, files, redact

#: Unreadable and doubtful files that are named on the terminal.
_SHOWN = 20


def main(arguments: Sequence[str]) -> int:
    """Write all leaderboards into the results folder and print the scores."""
    gc.disable()  # A thousand records are a million small objects that all stay: collecting costs a fifth of the time.
    results, board, written = write(Path(options("report", arguments)["results_dir"]))
    print(redact.redact(render_markdown.scores(board)) if board.rows else "No completed runs yet.")
    _tell([f"{file}: no record ({reason})" for file, reason in board.unreadable])
    _tell([f"{file}: {reason}" for file, reason in board.doubtful])
    names = ", ".join(map(escape.line, written))
    print(f"\n{len(results.completed)} completed, {len(results.failed)} failed: {names}")
    return 0


def write(root: Path) -> tuple[load.Results, stats.Leaderboard, list[Path]]:
    """Write all leaderboards into a results folder; returns its records, what is made of them, and the files.

    Raises:
        ConfigError: there is no such folder, or it can't be written.
    """
    if not root.is_dir():
        raise ConfigError(f"results_dir={root}: there is no such folder; a run makes it")
    results = load.load(root)
    board = stats.leaderboard(results)
    return results, board, [_write(root / module.FILE, module.render(board)) for module in renderers()]


def _tell(lines: Sequence[str]) -> None:
    """Print the first lines of what the leaderboard lists in full."""
    for text in lines[:_SHOWN]:
        print(escape.line(text))
    if len(lines) > _SHOWN:
        print(f"and {len(lines) - _SHOWN} more files, see {render_markdown.FILE}")


def renderers() -> list[ModuleType]:
    """The modules `render_*` of this package: a new format is one file with FILE and `render(board)`."""
    names = [m.name for m in pkgutil.iter_modules(report.__path__) if m.name.startswith("render_")]
    return [importlib.import_module(f"{report.__name__}.{name}") for name in names]


def _write(file: Path, text: str) -> Path:
    try:
        files.write(file, lambda temporary: temporary.write_text(redact.redact(text), encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"results_dir={file.parent}: can't be written ({error.strerror})") from None
    return file
