"""The command line that makes a cell's runs again, composed from what their records say."""

import functools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from omegaconf import OmegaConf

from peftbench.config import lm_eval_tasks, loading, mixture, paths
from peftbench.config.dataset_types import USUAL
from peftbench.config.values import as_word, safe
from peftbench.config.wording import ANYWHERE
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord

#: Keys beside the groups that decide a run, with what is meant where nothing is said.
_DEFAULTS = {
    "formulation": "auto",
    "start_from": None,
    "tune": None,
    "tune_space": None,
    "tune_halving": None,
    "bertscore_model": None,
    "bertscore_layer": None,
}
#: The choice of several data sets in one.
_MIXTURE = "mixture"
#: Its keys that hold data sets, which a command line names.
_PARTS = ("parts", "held_out")


def command(records: Sequence[RunRecord]) -> str:
    """The line for the runs of a cell. Folders (data, results) are the reader's own and aren't in it; neither is what
    a choice that is no longer in conf/ held."""
    record = records[0]
    config = record.config
    seeds = sorted({one.config["seed"] for one in records})
    words = [
        *(f"{group}={config[group]['name']}" for group in ("model", "method")),
        *_dataset(config["dataset"]),
        f"seed={','.join(map(str, seeds))}",
        f"hardware={(config.get('hardware') or {}).get('name')}",
        *record.changed,
        *_set(config),
        *_beside(config),
    ]
    multirun = ["-m"] if len(seeds) > 1 else []
    return " ".join(["python -m peftbench", *map(shlex.quote, dict.fromkeys(words)), *multirun])


def _dataset(section: Mapping[str, Any]) -> Iterator[str]:
    """The words for the data: its name; of a mixture its parts; of the user's own file its format, and a file of its
    name in the reader's folder."""
    choice = _choice(section)
    yield f"dataset={choice}"
    if choice == _MIXTURE:
        for key in _PARTS:
            if section.get(key):
                yield f"dataset.{key}={_word([part['name'] for part in section[key]])}"
    elif choice != section["name"]:
        file = f"{section['name']}.{choice}"
        yield f"dataset.file={_word(file)}"


def _choice(section: Mapping[str, Any]) -> str:
    """The name of the file in conf/ that a recorded data set was composed from."""
    name = str(section.get("name"))
    if section.get("parts"):
        return _MIXTURE
    own = section.get("format")
    return str(own) if own and name not in paths.choice_files("dataset") else name


def _follows(key: str, section: Mapping[str, Any]) -> bool:
    """True if a mixture's parts, or the user's own file, say this themselves; labels that nobody named are sorted."""
    labels = section.get("labels") or []
    of_parts = bool(section.get("parts")) and key in (*_PARTS, *USUAL)
    return of_parts or (key == "labels" and labels == sorted(labels))


def _set(config: Mapping[str, Any]) -> Iterator[str]:
    """Overrides of recipe, machine and data that differ from what their files say."""
    for group, name in (("recipe", "default"), ("hardware", None), ("dataset", _choice(config["dataset"]))):
        section = config.get(group) or {}
        if group == "dataset" and name != section.get("name"):  # What its parts or its file say themselves.
            section = {key: value for key, value in section.items() if not _follows(key, section)}
        written = _written(group, name or str(section.get("name")))
        if written is None:
            continue
        # A key that the file hasn't isn't named: whoever reads its records may have another version of it.
        beside = {key for key in section if f"{group}.{key}" in ANYWHERE and key not in USUAL}
        named = {key: value for key, value in section.items() if key in written or key in beside}
        yield from _differing(group, named, written)
    for key, usual in _DEFAULTS.items():
        if (value := config.get(key, usual)) != usual:
            yield f"{key}={_word(value)}"


def _beside(config: Mapping[str, Any]) -> Iterator[str]:
    """The words for what is evaluated beyond the score and asked before and after: nearest choice, and what differs."""
    for group in ("evaluation", "forgetting"):
        section = config.get(group) or {}
        tasks = lm_eval_tasks.by_name(section) if group == "forgetting" else {}
        rest = {key: value for key, value in section.items() if key not in tasks}
        if rest:
            name = _nearest(group, rest)
            yield f"{group}={name}"
            yield from _differing(group, rest, _written(group, name) or {})
        elif tasks:
            yield f"{group}=lm_eval"
        if tasks:
            yield f"++{group}.{lm_eval_tasks.TASKS}={_word(list(tasks))}"
        for task, said in tasks.items():
            yield from (f"+{group}.{task}.{key}={_word(value)}" for key, value in said.items())


def _nearest(group: str, section: Mapping[str, Any]) -> str:
    """The choice that says most of a section, and nothing that isn't in it."""

    def shared(name: str) -> tuple[int, int]:
        written = _written(group, name) or {}
        return sum(value == section[key] for key, value in written.items()), len(written)

    within = [name for name in paths.choices(group) if (_written(group, name) or {}).keys() <= section.keys()]
    return max(within, key=shared)


def _differing(prefix: str, section: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[str]:
    """An override for every leaf of a section that isn't as written. What a file computes from elsewhere (`${...}`)
    follows from the rest."""
    for key, value in section.items():
        usual = written.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            yield from _differing(f"{prefix}.{key}", value, usual)
        elif key not in written:
            if value is not None:
                yield f"+{prefix}.{key}={_word(value)}"
        elif not _computed(usual) and value != usual and str(value) != str(usual):
            yield f"{prefix}.{key}={_word(value)}"


@functools.cache
def _written(group: str, name: str) -> dict[str, Any] | None:
    """The content of a choice's file, the files that it is built on below it; None where there is no such choice."""
    file = paths.choice_files(group).get(name)
    if file is None:
        return None
    try:
        content = loading.read_yaml(file)
    except ConfigError:
        return None
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    below = [_written(group, base.removeprefix("/").removeprefix(f"{group}/")) or {} for base in bases]
    written = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.merge(*below, content)))
    if group == "dataset":
        mixture.take_templates(written, ())  # As of any composed data set: only parts of mixtures have them.
        written |= {key: usual | written.get(key, {}) for key, usual in USUAL.items()}
    return written


def _computed(value: Any) -> bool:
    return "${" in json.dumps(value, default=str)


def _word(value: Any) -> str:
    return as_word(value, safe)
