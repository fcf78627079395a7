"""`peftbench report`: the leaderboard of one folder's records or of several, in any form."""

import gc
import glob
import importlib
import pkgutil
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from peftbench.config.arguments import options
from peftbench.errors import ConfigError, nearest
from peftbench.results import report
from peftbench.results.folders import Folder
from peftbench.results.reading import read
from peftbench.results.records import RunRecord
from peftbench.results.report import against, filters, load, render_markdown, reuse, score_tables, stats
from peftbench.results.report.load import Results
from peftbench.results.report.reuse import Said
from peftbench.results.report.stats import Leaderboard
from peftbench.system import escape, files, redact

#: What may be said beside the folder.
_KEYS = ("format", "against", "budget", "tolerance", "by", *filters.GROUPS)
#: The value of `by` with which each folder's runs are a study of their own.
_FOLDER = "folder"
#: Unreadable and doubtful files that are named on the terminal.
_SHOWN = 20


def main(arguments: Sequence[str]) -> int:
    """Print the scores; of one folder's runs, all of them, write every leaderboard into it too. With `format` print
    that form alone, with `budget` the runs that keep to it; with `against` compare with another folder's runs; with
    `by=folder` the runs of each folder among themselves. Returns the exit status."""
    wanted = options("report", arguments, **dict.fromkeys(_KEYS, ""))
    named = _listed(wanted["results_dir"])
    roots = list({root.resolve(): root for name in named for root in _matching(name)}.values())
    if wanted["format"] not in ("", *formats()):
        raise ConfigError(f"report: format={wanted['format']}: {nearest(wanted['format'], formats())}")
    _check_by(wanted)
    whole = [str(root) for root in roots] == [str(Path(name)) for name in named[:1]] and not any(map(wanted.get, _KEYS))
    made_of = reuse.sources(roots[0]) if whole else None
    summary = reuse.last(roots[0], made_of)
    if summary is not None:
        _print(summary, [roots[0] / name for name in summary.files])
        return 0
    gc.disable()  # A thousand records are a million small objects that all stay: collecting costs a fifth of the time.
    listed = {} if made_of is None else {roots[0]: made_of.records}
    if wanted["by"] and not wanted["format"]:
        for root in roots:
            results = filters.chosen(load.load(root), wanted)
            print(f"Study: {escape.line(root.resolve().name)}\n")
            _print(_said(stats.leaderboard(results), results), [])
            print()
        return 0
    results = filters.chosen(load.load(*roots, listed=listed, apart=bool(wanted["by"])), wanted)
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
    written = _write_all(roots[0], board) if whole else []
    summary = _said(board, results)
    reuse.keep(roots[0], made_of, summary, written)
    _print(summary, written)
    return 0


def _said(board: Leaderboard, results: Results) -> Said:
    """The words of a leaderboard for the terminal."""
    return Said(
        wide=redact.redact(_marked(score_tables.wide(board), board)) if board.rows else "",
        narrow=redact.redact(_marked(render_markdown.scores(board), board)) if board.rows else "No completed runs yet.",
        unreadable=redact.data([f"{file}: no record ({reason})" for file, reason in board.unreadable]),
        doubtful=redact.data([f"{file}: {reason}" for file, reason in board.doubtful]),
        completed=len(results.completed),
        failed=len(results.failed),
    )


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
            _print(_said(board, those), [])
            print()
    return 0


def _print(summary: Said, written: Sequence[Path]) -> None:
    print(redact.redact(_fitting(summary.wide, summary.narrow, shutil.get_terminal_size((80, 24)).columns)))
    _tell(summary.unreadable)
    _tell(summary.doubtful)
    where = ", ".join(map(escape.line, written)) or "nothing written, as these aren't all runs of one folder"
    print(f"\n{summary.completed} completed, {summary.failed} failed: {where}")


def of_runs(root: Path, files: Sequence[Path]) -> str:
    """The scores of some completed runs with their intervals, for the terminal.

    Args:
        root: their results folder; files: their records.
    """
    records = [record for record in map(read, files) if isinstance(record, RunRecord)]
    board = stats.leaderboard(Results(completed=records, roots={id(record): root for record in records}))
    return redact.redact(terminal(board, shutil.get_terminal_size((80, 24)).columns)) if board.rows else ""


def terminal(board: Leaderboard, width: int) -> str:
    """One table of all scores if the terminal is wide enough for it; else a table for each data set and model."""
    return _marked(_fitting(score_tables.wide(board), render_markdown.scores(board), width), board)


def _marked(table: str, board: Leaderboard) -> str:
    """A table with what its marks mean."""
    return "\n\n".join(filter(None, (table, score_tables.legend(board, table))))


def _fitting(wide: str, narrow: str, width: int) -> str:
    return wide if wide and len(wide.partition("\n")[0]) <= width else narrow


def _listed(text: str) -> list[str]:
    """The folders, or patterns, of `[a,b]`, or of one name."""
    if text.startswith("[") and text.endswith("]") and not Path(text).is_dir():
        names = [name.strip() for name in text[1:-1].split(",") if name.strip()]
        if not names:
            raise ConfigError(f"results_dir={text}: names no folder")
        return names
    return [text]


def _matching(name: str) -> list[Path]:
    """The folder of that name; of a pattern (`*`, `?`) all folders with records that match it."""
    if Path(name).is_dir() or not any(sign in name for sign in "*?"):
        return [_folder("results_dir", name)]
    found = [Path(one) for one in sorted(glob.glob(name.replace("[", "[[]"))) if (Path(one) / Folder.RECORDS).is_dir()]
    if not found:
        raise ConfigError(f"results_dir={name}: no folder with records matches")
    return found


def _check_by(wanted: Mapping[str, str]) -> None:
    """Refuse what `by` can't be said with.

    Raises:
        ConfigError: another value than `folder`; a form in which all rows stand in one table, or another comparison.
    """
    if wanted["by"] not in ("", _FOLDER):
        raise ConfigError(f"report: by={wanted['by']}: allowed is {_FOLDER}")
    if wanted["by"] and wanted["format"] not in ("", "html"):
        raise ConfigError(f"report: by={_FOLDER} makes a page, format=html; for {wanted['format']} name one folder")
    for key in ("against", "budget"):
        if wanted["by"] and wanted[key]:
            raise ConfigError(f"report: by={_FOLDER} can't be said with {key}")


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
    return results, board, _write_all(root, board)


def _write_all(root: Path, board: Leaderboard) -> list[Path]:
    """Write every form into a results folder; returns the files. What has nothing to say is no file: one of an earlier
    report goes."""
    written = []
    for module in renderers():
        text = module.render(board)
        if text:
            written.append(_write(root / module.FILE, text))
        else:
            (root / module.FILE).unlink(missing_ok=True)
    return written


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
    """The values that `format` may have: what is written into the folder, and what is made on request alone
    (`export_*`)."""
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
