"""`peftbench check`: every file in conf/ and sweeps/ composes, is valid, and what it names can be built."""

import functools
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from peftbench.config import experiments, loading, paths
from peftbench.config.arguments import config_dirs
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.models.checkpoints import Checkpoint, locate
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import escape, process


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong, one line each; 2 if anything is."""
    rest, folders = config_dirs(list(arguments))
    if rest:
        raise ConfigError(f"check: takes no {rest[0]}")
    problems: list[str] = []
    choices = {group: paths.choices(group, folders) for group in paths.groups()}
    problems += [f"conf/{group}: holds no file" for group, names in choices.items() if not names]
    unreadable = _unreadable(folders)
    problems += unreadable.values()
    files = [(g, n, tuple(folders)) for g, names in choices.items() for n in names if (g, n) not in unreadable]
    composed: dict[str, list[RunConfig]] = {}
    # Composing takes a core a minute. Not forked: there may be threads here.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for (group, name, _), outcome in zip(files, pool.map(_composed, files), strict=True):
            choice = f"{group}={name}"
            composed[choice] = outcome if isinstance(outcome, list) else []
            if isinstance(outcome, str):
                problems.append(f"{choice}: {outcome}")
    problems += _sites(composed, [name for name in choices["method"] if ("method", name) not in unreadable], folders)
    # A sweep only combines what the other files' runs build anyway; an experiment's data sets share their adapter.
    first = {choice: cells[:1] if choice.startswith("experiment=") else cells for choice, cells in composed.items()}
    problems += _built([c for choice, cells in first.items() if not choice.startswith("sweep=") for c in cells])
    for problem in dict.fromkeys(problems):
        print(escape.line(problem))
    runs = sum(map(len, composed.values()))
    print(f"{len(composed)} files, {runs} configurations composed, {len(set(problems))} problems")
    return 2 if problems else 0


def _unreadable(folders: Sequence[Path]) -> dict[tuple[str, str], str]:
    """By group and name what is wrong with every file that is no YAML: nothing can be composed of it."""
    problems: dict[tuple[str, str], str] = {}
    for group in [*paths.groups(), paths.SHARED]:
        for name, file in paths.choice_files(group, folders).items():
            try:
                loading.read_yaml(file)
            except ConfigError as error:
                problems[group, name] = str(error)
    return problems


def _composed(file: tuple[str, str, tuple[Path, ...]]) -> list[RunConfig] | str:
    """A file's runs, or what is wrong with it."""
    try:
        return _runs(*file)
    except ConfigError as error:
        return str(error)


def _runs(group: str, name: str, folders: Sequence[Path]) -> list[RunConfig]:
    """A file's runs: a sweep's cells, an experiment, a method on a model of each family, or one run."""
    choice = f"{group}={name}"
    if group == "method":
        models = ",".join(_one_a_family(tuple(folders)))
        return plan_cells([choice, f"model={models}"], multirun=True, config_dirs=folders).cells
    if group == "experiment":
        return experiments.on_all_datasets(name, folders)
    return plan_cells([choice], multirun=False, config_dirs=folders).cells


@functools.cache
def _one_a_family(folders: tuple[Path, ...]) -> list[str]:
    """Of the models that are built from their file, so that nothing must be loaded, the first of each family."""
    first: dict[str, str] = {}
    for name, file in sorted(paths.choice_files("model", folders).items()):
        try:
            if "config" in loading.read_yaml(file):
                model = plan_cells([f"model={name}"], multirun=False, config_dirs=folders).cells[0].model
                first.setdefault(model.family, name)
        except ConfigError:
            continue  # Said of the file itself.
    return list(first.values())


def _sites(composed: dict[str, list[RunConfig]], methods: Sequence[str], folders: Sequence[Path]) -> Iterator[str]:
    """Every site that a method asks for must be named by every model. Read off the files: composing all pairs takes
    minutes."""
    models = {
        choice: cells[0].model.sites for choice, cells in composed.items() if choice.startswith("model=") and cells
    }
    files = paths.choice_files("method", folders)
    for name in methods:
        site, text = loading.read_yaml(files[name]).get("site"), files[name].read_text(encoding="utf-8")
        wanted = {*re.findall(r"\$\{model\.sites\.(\w+)\}", text), *([str(site)] if site else [])}
        for choice, sites in models.items():
            for missing in sorted(wanted - set(sites)):
                yield f"method={name}: {choice} names no site {missing}"


def _built(cells: Sequence[RunConfig]) -> Iterator[str]:
    """Adapters, metrics, optimisers and sinks built in a fresh process, on every model whose shape is at hand."""
    pairs: dict[str, tuple[RunConfig, Checkpoint]] = {}
    for config in cells:
        if config.dataset.format is not None and not (config.dataset.file or config.dataset.train_file):
            continue  # The user's own files: what they hold is said on the command line.
        try:
            checkpoint = locate(config.model, None) if config.model.config or config.model.package else None
        except ConfigError:
            checkpoint = None
        if checkpoint is not None:
            pairs[repr((config.model, config.method, config.dataset, config.recipe, config.logger))] = (
                config,
                checkpoint,
            )
    with TemporaryDirectory() as folder:
        outcome = process.call("peftbench.run.verify:verify", list(pairs.values()), [], log=Path(folder, "check.log"))
    if outcome.result is None:
        yield f"the check's process failed: {outcome.error}"
        return
    # A method that doesn't fit some model is no mistake; whether it fits any, the tests see.
    for (config, _), problem in zip(pairs.values(), outcome.result, strict=True):
        if problem is not None and not problem[1]:
            named = f"method={config.method.name}"
            yield problem[0] if named in problem[0] else f"{named} on model={config.model.name}: {problem[0]}"
