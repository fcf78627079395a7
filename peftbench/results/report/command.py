"""`peftbench report`: the leaderboard of one folder's records or of several, in any form."""

import gc
import importlib
import pkgutil
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from peftbench.config.arguments import options
from peftbench.errors import ConfigError, nearest
from peftbench.results import report
from peftbench.results.report import against, filters, load, render_markdown, score_tables, stats
from peftbench.results.report.load import Results
from peftbench.results.report.stats import Leaderboard
from peftbench.system import escape, files, redact

#: What may be said beside the folder.
_KEYS = ("format", "against", "budget", "tolerance", *filters.GROUPS)
#: Unreadable and doubtful files that are named on the terminal.
_SHOWN = 20


def main(arguments: Sequence[str]) -> int:
    """Print the scores; of one folder's runs, all of them, write every leaderboard into it too. With `format` print
    that form alone, with `budget` the runs that keep to it; with `against` compare with another folder's runs. Returns
    the exit status."""
    wanted = options("report", arguments, **dict.fromkeys(_KEYS, ""))
    roots = [_folder("results_dir", name) for name in _listed(wanted["results_dir"])]
    if wanted["format"] not in ("", *formats()):
        raise ConfigError(f"report: format={wanted['format']}: {nearest(wanted['format'], formats())}")
    gc.disable()  # A thousand records are a million small objects that all stay: collecting costs a fifth of the time.
    results = filters.chosen(load.load(*roots), wanted)
    if wanted["against"]:
        before = filters.chosen(load.load(_folder("against", wanted["against"])), wanted)
        comparison = against.compare(before, results)
        print(redact.redact(against.render(comparison)))
        return int(comparison.fell)
    if wanted["budget"]:
        return _budgets(filters.by_budget(results, wanted), wanted["format"])
    board = stats.leaderboard(results)
    if wanted["format"]:
        _export(board, wanted["format"])
        return 0
    whole = len(roots) == 1 and not any(wanted[group] for group in filters.GROUPS)
    written = [_write(roots[0] / module.FILE, module.render(board)) for module in renderers()] if whole else []
    _print(board, results, written)
    return 0


def _budgets(results: dict[str, Results], form: str) -> int:
    """Print the scores of each budget by themselves: what can't be told from the best is of those at that budget."""
    if form and len(results) > 1:
        raise ConfigError(f"report: format={form}: takes one budget at a time, not {', '.join(results)}")
    for budget, those in results.items():
        board = stats.leaderboard(those)
        if form:
            _export(board, form)
        else:
            print(f"Trained outside the head: {budget}" + (" of the model\n" if budget.endswith("%") else " weights\n"))
            _print(board, those, [])
            print()
    return 0


def _print(board: Leaderboard, results: Results, written: Sequence[Path]) -> None:
    text = terminal(board, shutil.get_terminal_size((80, 24)).columns) if board.rows else "No completed runs yet."
    print(redact.redact(text))
    _tell([f"{file}: no record ({reason})" for file, reason in board.unreadable])
    _tell([f"{file}: {reason}" for file, reason in board.doubtful])
    where = ", ".join(map(escape.line, written)) or "nothing written, as these aren't all runs of one folder"
    print(f"\n{len(results.completed)} completed, {len(results.failed)} failed: {where}")


def terminal(board: Leaderboard, width: int) -> str:
    """One table of all scores if the terminal is wide enough for it; else a table for each data set and model."""
    text = score_tables.wide(board)
    return text if len(text.partition("\n")[0]) <= width else render_markdown.scores(board)


def _listed(text: str) -> list[str]:
    """The folders of `[a,b]`, or of one name."""
    if text.startswith("[") and text.endswith("]") and not Path(text).is_dir():
        return [name.strip() for name in text[1:-1].split(",") if name.strip()]
    return [text]


def _folder(key: str, name: str) -> Path:
    if not Path(name).is_dir():
        raise ConfigError(
            f"{key}={name}: there is no such folder" + ("; a run makes it" if key == "results_dir" else "")
        )
    return Path(name)


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
    return [_module(name) for name in _names("render_")]


def formats() -> list[str]:
    """What `format` may be: what is written into the folder, and what is made on request alone (`export_*`)."""
    return [name.partition("_")[2] for prefix in ("render_", "export_") for name in _names(prefix)]


def _names(prefix: str) -> list[str]:
    return [m.name for m in pkgutil.iter_modules(report.__path__) if m.name.startswith(prefix)]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{report.__name__}.{name}")


def _export(board: Leaderboard, name: str) -> None:
    """Print one form: a text as text, else its bytes."""
    if f"render_{name}" in _names("render_"):
        print(redact.redact(_module(f"render_{name}").render(board)), end="")
        return
    content = _module(f"export_{name}").export(board)
    try:
        print(redact.redact(content.decode()), end="")
    except UnicodeDecodeError:
        if sys.stdout.isatty():
            raise ConfigError(f"report: format={name} isn't text: write it to a file, > leaderboard.{name}") from None
        sys.stdout.buffer.write(content)


def _write(file: Path, text: str) -> Path:
    try:
        files.write(file, lambda temporary: temporary.write_text(redact.redact(text), encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"results_dir={file.parent}: can't be written ({error.strerror})") from None
    return file
