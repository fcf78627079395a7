"""The commands as Python functions, for notebooks and scripts.

    from peftbench.api import run, sweep, frame

    run(method="lora", dataset="rte", recipe={"max_steps": 200}).score
    sweep(method=["lora", "prefix"], dataset="rte", seed=[0, 1, 2])
    frame("results")

What a function does is what its command does: the same keys, checks, processes and records; a run that is recorded is
not made again. What is wrong is said by `errors.ConfigError` before anything is trained, what went wrong by
`errors.Failed`, each in one line.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.config import keywords, paths
from peftbench.config.keywords import PathLike
from peftbench.config.loading import from_description
from peftbench.errors import ConfigError, Failed
from peftbench.results import made
from peftbench.results.made import Run
from peftbench.results.store import ResultStore
from peftbench.system import machine, process, redact

if TYPE_CHECKING:
    import pandas as pd

    from peftbench.run.prepared import PreparedRun


def run(*, config_dir: PathLike | Sequence[PathLike] = (), **keys: Any) -> Run:
    """Make one run, unless it is recorded; returns it with its record.

    Args:
        config_dir: a folder of your own configurations, or several (`--config-dir`).
        keys: the command line's. A dict stands for dotted keys: `recipe={"max_steps": 5}` is `recipe.max_steps=5`, as
            is `**{"recipe.max_steps": 5}`, which can stand beside a choice (`dataset="csv", **{"dataset.file": file}`).
            A text is read as on the command line; None, numbers, bools, lists and paths as what they are.

    Raises:
        ConfigError: something is wrong, or the keys describe several runs.
        Failed: the run failed. Its record says how.
    """
    meant = _launched(keywords.words(keys, config_dir, several=False), alone=True)
    if not meant:
        raise ConfigError("run: dry_run makes none; sweep(..., dry_run=True) shows the plan")
    (one,) = meant
    if one.status != "completed":
        raise Failed(f"{one.file}: {one.status}: {one.record.error}")
    return one


def sweep(*, config_dir: PathLike | Sequence[PathLike] = (), **keys: Any) -> list[Run]:
    """Make all combinations of keys' values, but for recorded ones; returns the runs with a record, failed ones too.

    Args:
        config_dir, keys: as `run`; here a list holds a key's values, one after the other (`seed=[0, 1, 2]`, as the text
            "0,1,2"; a list within it is a value). `sweep="glue_quick"` is a prepared sweep, `dry_run=True` shows the
            plan and makes none.

    Raises:
        ConfigError: something is wrong; nothing was trained.
    """
    return _launched(["-m", *keywords.words(keys, config_dir, several=True)], alone=False)


def estimate(*, config_dir: PathLike | Sequence[PathLike] = (), **keys: Any) -> "pd.DataFrame":
    """The needs of runs, estimated without weights, data or training: a row for each, with the names of its choices and
    the columns of `peftbench estimate format=json` (`peak_bytes`, `parts.gradients`, `time_s.value`); `refused` says
    why a run can't be estimated.

    Args:
        config_dir, keys: as `sweep`, and `memory="8GB"`, `length=512`, `picture="memory.svg"` (docs/estimate.md).

    Raises:
        ConfigError: something is wrong.
    """
    import pandas as pd

    from peftbench.sweep import estimate as command

    machine.relax_warnings()
    with process.without_main():
        asked, _ = command.asked(["-m", *keywords.words(keys, config_dir, several=True)])
    return pd.json_normalize(command.cells(asked))


def report(results_dir: PathLike = "results") -> "pd.DataFrame":
    """Write all leaderboards into a results folder, `leaderboard.html` among them; returns the table of
    `leaderboard.csv`, a row for each method and model.

    Raises:
        ConfigError: there is no such folder, or it can't be written.
    """
    import pandas as pd

    from peftbench.results.report import command, render_csv

    command.write(Path(results_dir))
    return pd.read_csv(Path(results_dir, render_csv.FILE))


def frame(results_dir: PathLike = "results") -> "pd.DataFrame":
    """Every record of a results folder as a row: dataset, model, method, seed, status, score, then all that records
    hold. Columns are named as their fields, without the sections `config`, `efficiency` and `params`
    (`train_time_s`, `trainable`, `recipe.lr`).

    Raises:
        ConfigError: there is no such folder.
    """
    from peftbench.results.report import dataframe

    if not Path(results_dir).is_dir():
        raise ConfigError(f"results_dir={results_dir}: there is no such folder; a run makes it")
    table = dataframe.frame(results_dir)
    table = table.rename(columns={name: _short(name, list(table.columns)) for name in table.columns})
    first = [name for name in ("dataset", "model", "method", "seed", "status", "score") if name in table]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def curve(run: Run | PathLike) -> "pd.DataFrame":
    """The learning curve of a run, given as such or by its record's path: at most 200 rows by step, with the columns of
    `results.curves.Point`.

    Raises:
        ConfigError: it is no record, or its curve wasn't kept.
    """
    import pandas as pd

    finished = made.read(run)
    points = ResultStore(finished.results_dir).curve(finished.record)
    if points is None:
        raise ConfigError(f"{finished.file}: its curve wasn't kept")
    return pd.DataFrame(points)


def predictions(run: Run | PathLike) -> "pd.DataFrame":
    """The answers of a run to its evaluation splits, a row for each example, as its file has it (docs/records.md).

    Raises:
        ConfigError: it is no record, or its predictions weren't kept.
    """
    import pandas as pd

    finished = made.read(run)
    config = from_description(finished.record.config)
    file = ResultStore(finished.results_dir).places(config, finished.record.key).predictions
    if not file.is_file():
        raise ConfigError(f"{finished.file}: its predictions weren't kept")
    return pd.read_parquet(file)


def predict(
    run: Run | PathLike,
    texts: "PathLike | Sequence[str] | Sequence[Mapping[str, Any]] | pd.DataFrame",
    *,
    merged: bool = True,
    model_root: PathLike | None = None,
) -> "pd.DataFrame":
    """The answers of a finished run's model: the text columns, then `label` and `probability`, or `answer`.

    Args:
        run: as such, or its record's path.
        texts: the path of a file (CSV, TSV, JSON lines, Parquet), a table or dicts with the text columns of the run's
            data set, or, where that has one text column, a list of texts.
        merged: whether the method is folded into the weights, where it can be.
        model_root: where checkpoints are, as for runs.

    Raises:
        ConfigError: the run's weights weren't kept, or a text column is missing.
    """
    import pandas as pd

    from peftbench.sweep.predict import answers

    finished = made.read(run)
    with tempfile.TemporaryDirectory() as folder, process.without_main():
        file = Path(texts) if isinstance(texts, str | os.PathLike) else Path(folder, "texts.parquet")
        if not isinstance(texts, str | os.PathLike):
            _table(texts, finished).to_parquet(file)
        root = None if model_root is None else str(model_root)
        result = answers(str(finished.file), file, merged=merged, model_root=root)
    return pd.DataFrame(result["rows"], columns=result["columns"])


def export(run: Run | PathLike, folder: PathLike, *, merged: bool = False, model_root: PathLike | None = None) -> Path:
    """Write a finished run's weights as a folder that plain transformers and peft load; returns the folder.

    Args:
        run: as such, or its record's path.
        folder: must not be there.
        merged: a whole model with the method folded in; else an adapter.

    Raises:
        ConfigError: the folder is there, or the method can't be exported so.
    """
    from peftbench.sweep.predict import ask

    how = {"model_root": None if model_root is None else str(model_root), "merged": merged}
    with process.without_main():
        ask("write", str(made.read(run).file), str(Path(folder).absolute()), how, module="export")
    return Path(folder)


def push(
    run: Run | PathLike,
    repository: str,
    *,
    private: bool = True,
    merged: bool = False,
    overwrite: bool = False,
    model_root: PathLike | None = None,
) -> str:
    """Send a finished run's weights to the Hugging Face hub, in one commit; returns the repository's address.

    The token is HF_TOKEN's, or that of `hf auth login`.

    Args:
        run: as such, or its record's path.
        repository: its name there, OWNER/NAME; made unless it is there.
        private: whether others can't see it. One that is there stays as it is, and must be so.
        merged: a whole model with the method folded in; else an adapter.
        overwrite: whether what the repository holds may be replaced.
        model_root: where checkpoints are, as for runs.

    Raises:
        ConfigError: the method can't be exported so, or the hub doesn't let this be done.
        Failed: the hub doesn't answer.
    """
    from peftbench.sweep.push import pushed

    root = None if model_root is None else str(model_root)
    with process.without_main():
        sent = pushed(
            str(made.read(run).file), repository, private=private, merged=merged, overwrite=overwrite, model_root=root
        )
    return str(sent["address"])


def _launched(words: list[str], *, alone: bool) -> list[Run]:
    """The runs that a command line means, with their last records."""
    from peftbench.sweep import launch  # Brings Hydra.

    redact.install()
    machine.relax_warnings()
    with process.without_main():
        cells = launch.launched(words, alone=alone).runs
    recorded = [_last(cell) for cell in {cell.key: cell for cell in cells}.values()]
    if alone and None in recorded:
        raise Failed(f"{' '.join(words)}: left no record; another process may be making this run")
    return [one for one in recorded if one is not None]


def _last(cell: "PreparedRun") -> Run | None:
    """A run by its record, or by that of its last failed try; None where it has neither."""
    store = ResultStore(cell.config.results_dir)
    done = store.completed(cell.config, cell.key)
    files = [store.record_file(cell.config, cell.key)] if done else store.failures(cell.config, cell.key)
    return made.read(files[-1]) if files else None


def _table(texts: Any, finished: Run) -> "pd.DataFrame":
    """Texts as a table of the run's text columns."""
    import pandas as pd

    if isinstance(texts, pd.DataFrame):
        return texts
    rows = list(texts)
    if all(isinstance(row, str) for row in rows):
        columns = finished.record.config["dataset"].get("text") or []
        if len(columns) != 1:
            raise ConfigError(f"texts: this model reads the columns {', '.join(columns)}: allowed are dicts, a table")
        return pd.DataFrame({columns[0]: rows})
    if not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError("texts: allowed are texts, dicts, a table, or the path of a file")
    return pd.DataFrame(rows)


def _short(name: str, names: Sequence[str]) -> str:
    """A column's name without its section, unless another column is called so."""
    sections = ("config.", "efficiency.", "params.")
    short = next((name.removeprefix(section) for section in sections if name.startswith(section)), name)
    group, _, last = short.partition(".")
    short = group if last == "name" and group in paths.groups() else short
    return name if short != name and short in names else short
