"""`peftbench predict RECORD FILE`: what a finished run's model answers to one's own texts, as CSV."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config import arguments
from peftbench.errors import ConfigError, Failed
from peftbench.sweep import terminal
from peftbench.system import process

#: By the end of a file's name, its format.
_FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_PACKED = (".gz", ".bz2", ".xz")
_USAGE = "predict RECORD FILE [model_root=DIR] [merged=true] [separator=...] [encoding=...]"


def main(words: Sequence[str]) -> int:
    """Print the answers to standard output; returns the exit status."""
    paths = [word for word in words if "=" not in word or Path(word).exists()]
    if len(paths) != 2:
        raise ConfigError(f"predict: takes a record and a file of texts: {_USAGE}")
    settings = [word for word in words if word not in paths]
    defaults = {"model_root": "", "merged": "true", "separator": "", "encoding": ""}
    chosen = arguments.options("predict", settings, **defaults) if settings else defaults
    how = {name: chosen[name] or None for name in ("model_root", "separator", "encoding")}
    _write(answers(paths[0], Path(paths[1]), merged=arguments.switch(chosen, "merged"), **how))
    return 0


def answers(
    record: str,
    file: Path,
    *,
    merged: bool = True,
    model_root: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> dict[str, Any]:
    """The answers of a finished run's model to a file of texts: `columns`, their names, and `rows`, a list each.

    Args:
        record: the path of the run's record.

    Raises:
        ConfigError: the file can't be read, or the run can't be used.
    """
    if not file.is_file():
        raise ConfigError(f"predict: {file}: there is no such file")
    how = {"model_root": model_root, "encoding": encoding, "format": _format(file), "merged": merged}
    how["separator"] = separator or ("\t" if ".tsv" in file.suffixes else None)
    return ask("answer", record, str(file), how)


def ask(function: str, *values: Any, module: str = "predict") -> dict[str, Any]:
    """The result of a function of `run`, which loads a finished run in a fresh process.

    Raises:
        ConfigError: it says what is the user's to mend.
        Failed: it ended otherwise.
    """
    with terminal.waiting("loading the model"), terminal.temporary_log(function) as log:
        outcome = process.call(f"peftbench.run.{module}:{function}", *values, log=log)
        if outcome.result is None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
            raise Failed(f"{module}: {outcome.error} {' '.join(last)}")
    result: dict[str, Any] = outcome.result
    if "problem" in result:
        raise ConfigError(result["problem"])
    return result


def _format(file: Path) -> str:
    name = file.with_suffix("") if file.suffix in _PACKED else file
    if name.suffix not in _FORMATS:
        raise ConfigError(f"predict: {file}: allowed are files named {', '.join(_FORMATS)}")
    return _FORMATS[name.suffix]


def _write(answers: dict[str, Any]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answers["columns"])
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in answers["rows"])
