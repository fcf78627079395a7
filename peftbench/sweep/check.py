"""`peftbench check [FILE ...]`: every file in conf/ and sweeps/, or the named ones, composes, is valid, and what it
names can be built. All faults are said, each with its file and key."""

import contextlib
import functools
import multiprocessing
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from peftbench.config import compose, experiments, faults, loading, paths
from peftbench.config.arguments import config_dirs
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.models.checkpoints import Checkpoint, locate
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import escape, load, process


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong, one line each; 2 if anything is."""
    rest, folders = config_dirs(list(arguments))
    if wrong := [word for word in rest if not Path(word).is_file()]:
        raise ConfigError(f"check: takes no {wrong[0]}; allowed are configuration files (.yaml)")
    choices = {group: paths.choices(group, folders) for group in paths.groups()}
    if rest:
        choices, folders = _named(rest, folders)
    problems: list[str] = []
    problems += [f"conf/{group}: holds no file" for group, names in choices.items() if not names]
    unreadable = _unreadable(folders)
    problems += [fault for where, fault in unreadable.items() if not rest or where[1] in choices.get(where[0], [])]
    files = [(g, n, tuple(folders)) for g, names in choices.items() for n in names if (g, n) not in unreadable]
    composed: dict[str, list[RunConfig]] = {}
    with _mapped(files) as outcomes:
        for (group, name, _), outcome in zip(files, outcomes, strict=True):
            choice = f"{group}={name}"
            cells, wrong = outcome
            composed[choice] = cells
            where = paths.shown(paths.choice_files(group, folders)[name])
            problems += [fault if fault.startswith(f"{where}: ") else f"{where}: {fault}" for fault in wrong]
    readable = [name for name in choices.get("method", []) if ("method", name) not in unreadable]
    problems += _sites(composed, readable, folders)
    # A sweep only combines what the other files' runs build anyway; an experiment's data sets share their adapter.
    first = {choice: cells[:1] if choice.startswith("experiment=") else cells for choice, cells in composed.items()}
    building = {choice: cells for choice, cells in first.items() if not choice.startswith("sweep=")}
    problems += _built({_file(choice, folders): cells for choice, cells in building.items()})
    for problem in dict.fromkeys(problems):
        print(escape.line(problem))
    runs = sum(map(len, composed.values()))
    print(f"{len(composed)} files, {runs} configurations composed, {len(set(problems))} problems")
    return 2 if problems else 0


@contextlib.contextmanager
def _mapped(
    files: Sequence[tuple[str, str, tuple[Path, ...]]],
) -> Iterator[Iterable[tuple[list[RunConfig], list[str]]]]:
    """`_composed` of every file. All of conf/ takes a core a minute, so that it is divided; a few files aren't worth
    starting processes."""
    if len(files) <= _FEW:
        yield map(_composed, files)
        return
    spawned = multiprocessing.get_context("spawn")  # There may be threads.
    with ProcessPoolExecutor(len(load.usable_cores()), spawned) as pool:
        yield pool.map(_composed, files)


_FEW = 4


def _named(words: Sequence[str], folders: Sequence[Path]) -> tuple[dict[str, list[str]], list[Path]]:
    """The choices that files are, by group, and the folders that they lie in: `folders`, and those that are laid out as
    conf/ around a file.

    Raises:
        ConfigError: a file lies in no group.
    """
    choices: dict[str, list[str]] = {}
    searched = list(folders)
    for file in map(Path, words):
        around = [parent for parent in file.absolute().parents if parent.name in paths.groups()]
        if around and not _choice(file, searched):
            searched.append(around[0].parent)
        choice = _choice(file, searched)
        if choice is None:
            raise ConfigError(
                f"check: {file}: lies in no group; allowed is a .yaml in one of {', '.join(paths.groups())}/"
            )
        choices.setdefault(choice[0], []).append(choice[1])
    return choices, searched


def _choice(file: Path, folders: Sequence[Path]) -> tuple[str, str] | None:
    """The group and name by which a file is chosen."""
    for group in paths.groups():
        for name, other in paths.choice_files(group, folders).items():
            if other.resolve() == file.resolve():
                return group, name
    return None


def _file(choice: str, folders: Sequence[Path]) -> str:
    """The path by which messages name the file of `group=name`."""
    group, _, name = choice.partition("=")
    return paths.shown(paths.choice_files(group, folders)[name])


def _unreadable(folders: Sequence[Path]) -> dict[tuple[str, str], str]:
    """The problem of every file that is no YAML, by group and name: nothing can be composed of it."""
    problems: dict[tuple[str, str], str] = {}
    for group in [*paths.groups(), paths.SHARED]:
        for name, file in paths.choice_files(group, folders).items():
            try:
                loading.read_yaml(file)
            except ConfigError as error:
                problems[group, name] = str(error)
    return problems


def _composed(file: tuple[str, str, tuple[Path, ...]]) -> tuple[list[RunConfig], list[str]]:
    """A file's runs, or all that is wrong with it."""
    try:
        return _runs(*file), []
    except ConfigError as error:
        return [], _faults(*file) or [str(error)]


def _faults(group: str, name: str, folders: Sequence[Path]) -> list[str]:
    """All faults of a file's run, or of a method's on a model of each family; none where it can't be composed."""
    models = [f"model={model}" for model in _one_a_family(tuple(folders))] if group == "method" else [None]
    problems: dict[str, None] = {}
    for model in models:
        words = [f"{group}={name}", *([model] if model else [])]
        with contextlib.suppress(ConfigError), compose.session(), compose.resolving():
            problems |= dict.fromkeys(faults.faults(compose.composed([*words, *compose.search_path(folders)])))
    return list(problems)


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
    """The first model of each family among those that are built from their file, so that nothing must be loaded."""
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
                yield f"{paths.shown(files[name])}: {choice} names no site {missing}"


def _built(by_file: Mapping[str, Sequence[RunConfig]]) -> Iterator[str]:
    """Adapters, metrics, optimisers and sinks of runs, by the file that they are of, built in a fresh process on every
    model whose shape is at hand."""
    pairs: dict[str, tuple[RunConfig, Checkpoint]] = {}
    first: dict[str, str] = {}
    for file, config in ((file, config) for file, cells in by_file.items() for config in cells):
        if config.dataset.format is not None and not (config.dataset.file or config.dataset.train_file):
            continue  # The user's own files: what they hold is said on the command line.
        try:
            checkpoint = locate(config.model, None) if config.model.config or config.model.package else None
        except ConfigError:
            checkpoint = None
        if checkpoint is not None:
            alike = repr((config.model, config.method, config.dataset, config.recipe, config.logger))
            pairs[alike] = (config, checkpoint)
            first.setdefault(alike, file)
    with TemporaryDirectory() as folder:
        outcome = process.call("peftbench.run.verify:verify", list(pairs.values()), [], log=Path(folder, "check.log"))
    if outcome.result is None:
        yield f"the check's process failed: {outcome.error}"
        return
    # A method that doesn't fit some model is no mistake; whether it fits any, the tests see.
    for (alike, (config, _)), problem in zip(pairs.items(), outcome.result, strict=True):
        if problem is not None and not problem[1]:
            named = f"method={config.method.name}"
            what = problem[0] if named in problem[0] else f"{named} on model={config.model.name}: {problem[0]}"
            yield f"{first[alike]}: {what}"
