"""Benchmarks of lm-eval (EleutherAI's evaluation harness) by the names of their tasks: what its own files say of them.

The files are read here, not lm-eval's index of them, which takes ten seconds and imports torch.
"""

import difflib
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from peftbench.errors import ConfigError

#: The keys of `forgetting` that aren't benchmarks: tasks by name, and how many questions of each.
TASKS, EXAMPLES = "tasks", "examples"
_USUAL_EXAMPLES = 100
INSTALL = 'needs lm-eval: pip install "peftbench[lm_eval]"'

#: Metrics that are right or wrong for one question. Others (perplexity, F1, BLEU) are of many together.
_METRICS = ("acc", "acc_norm", "exact_match", "acc_bytes", "acc_mutual_info", "em")
#: Splits that can be asked, and those that answered questions are taken from: lm-eval's order.
_ASKED = ("test_split", "validation_split")
_ANSWERED = ("fewshot_split", "training_split", "validation_split", "test_split")
_NAME = re.compile(r"""^["']?task["']?\s*:\s*["']?([\w.+-]+)["']?\s*(?:#.*)?$""", re.MULTILINE)


class _TaskLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML in which a function is its name."""


_TaskLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def expand(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmarks of a run, with one for each of its `tasks`.

    Args:
        asked: benchmarks by name; beside them `tasks` and `examples`. What is said of a task by its name there wins
            over lm-eval's file.

    Raises:
        ConfigError: lm-eval has no such task, or it can't be asked this way.
    """
    if TASKS not in asked:
        return dict(asked)
    benchmarks = {name: benchmark for name, benchmark in asked.items() if name not in (TASKS, EXAMPLES)}
    names, examples = asked[TASKS], asked.get(EXAMPLES, _USUAL_EXAMPLES)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"forgetting.{TASKS}={names}: allowed is a list of one or more names of lm-eval's tasks")
    for name in names:
        said = benchmarks.get(name) or {}
        if not isinstance(said, dict):
            raise ConfigError(f"forgetting.{name}={said}: allowed is a mapping, such as {{metric: acc_norm, shots: 5}}")
        benchmarks[name] = {EXAMPLES: examples, **_benchmark(name, said.get("shots")), **said}
    return benchmarks


def by_name(benchmarks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The recorded benchmarks that `tasks` named, with what a run must say of each to mean the same."""
    named = {name: benchmark for name, benchmark in benchmarks.items() if benchmark.get("task") == name}
    usual = {"metric": None, EXAMPLES: _USUAL_EXAMPLES, "shots": None, "max_new_tokens": None}
    return {
        name: {key: benchmark.get(key) for key, value in usual.items() if benchmark.get(key) != value}
        for name, benchmark in named.items()
    }


def _benchmark(name: str, shots: int | None) -> dict[str, Any]:
    """A task as a benchmark of one part.

    Args:
        shots: answered questions before each, where the run says it.
    """
    if importlib.util.find_spec("lm_eval") is None:  # A run says so when it looks for the questions.
        return {"folder": name, "task": name, "metric": "acc", "path": name, "splits": ["test"], "parts": [name]}
    file = _file(name)
    task = read(file)
    place = f"forgetting.{TASKS}: {name}"
    loaded_by = (task.get("dataset_kwargs") or {}).keys() - {"trust_remote_code"}
    if not isinstance(task.get("dataset_path"), str) or loaded_by:
        raise ConfigError(f"{place}: its data aren't a set of the hub, and only those are read")
    metrics = [metric.get("metric") for metric in task.get("metric_list") or []] or ["acc"]
    right = [metric for metric in metrics if metric in _METRICS]
    if not right:
        raise ConfigError(
            f"{place}: its metrics ({', '.join(map(str, metrics))}) aren't right or wrong for one question; "
            f"allowed are {', '.join(_METRICS)}"
        )
    asked = next((task[key] for key in _ASKED if task.get(key)), None)
    if asked is None:
        raise ConfigError(f"{place}: lm-eval's file names no split to ask")
    return {
        "folder": file.parent.relative_to(root()).as_posix(),
        "task": name,
        "metric": right[0],
        "path": task["dataset_path"],
        "config": task.get("dataset_name"),
        "splits": list(dict.fromkeys([asked, *_answered(task, shots)])),
        "parts": [name],
    }


def _answered(task: Mapping[str, Any], shots: int | None) -> list[str]:
    """The split of the answered questions, if there are any and the file doesn't hold them itself."""
    told = task.get("fewshot_config") or {}
    if not (task.get("num_fewshot") if shots is None else shots) or told.get("samples"):
        return []
    return [told.get("split") or next(task[key] for key in _ANSWERED if task.get(key))]


def root() -> Path:
    """The folder of lm-eval's task files, found without importing it."""
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks"


def read(file: Path) -> dict[str, Any]:
    """A task's file, over those that it includes."""
    content: dict[str, Any] = _TaskLoader(file.read_text(encoding="utf-8")).get_single_data()
    included = content.pop("include", [])
    below: dict[str, Any] = {}
    for other in included if isinstance(included, list) else [included]:
        below |= read(file.parent / other)
    return below | content


@functools.cache
def _files() -> tuple[Path, ...]:
    return tuple(sorted(root().rglob("*.yaml")))


@functools.cache
def _file(name: str) -> Path:
    """The file of a task. Raises ConfigError if there is none."""
    # Of over ten thousand files, those whose name or folder is like the task's are read first.
    likely = [file for file in _files() if file.stem == name or name.startswith(file.parent.name)]
    found = next((file for file in likely if _named(file) == name), None) or _by_task().get(name)
    if found is not None:
        return found
    together = sorted(_together(name))
    if together:
        raise ConfigError(f"forgetting.{TASKS}: {name} is a group of lm-eval's; its tasks are {', '.join(together)}")
    like = difflib.get_close_matches(name, _by_task(), n=5)
    nearest = f"; nearest: {', '.join(like)}" if like else ""
    raise ConfigError(f"forgetting.{TASKS}: lm-eval has no task or group {name}{nearest}")


def _named(file: Path) -> str | None:
    """The task that a file is of."""
    found = _NAME.search(file.read_text(encoding="utf-8"))
    return None if found is None else found[1]


@functools.cache
def _by_task() -> dict[str, Path]:
    return {name: file for file in _files() if (name := _named(file)) is not None}


def _together(name: str) -> Iterator[str]:
    """The tasks of a group or tag. A task has the tags of the files that it includes, which lie beside it."""
    named = re.compile(rf"\b{re.escape(name)}\b")
    folders = {file.parent for file in _files() if named.search(file.read_text(encoding="utf-8"))}
    for file in (file for file in _files() if file.parent in folders):
        content = read(file)
        tags = content.get("tag") or []
        if name in ([tags] if isinstance(tags, str) else tags) and isinstance(content.get("task"), str):
            yield content["task"]
        if content.get("group") == name:
            yield from (task for task in content.get("task") or [] if isinstance(task, str))
