"""`peftbench list GROUP NAME`: all that one file says, what is promised of it, and where it is used."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from peftbench.config import paths
from peftbench.errors import ConfigError, exact, nearest
from peftbench.system import escape

_WIDTH = 100
#: What a method's file promises, and tests hold it to: by value, in words.
_PROMISES = {
    "mergeable": {True: "folds into the weights: no cost at inference", False: "can't be folded into the weights"},
    "identity": {True: "answers as the base does before it is trained", False: "doesn't start as the base"},
    "checkpointing": {False: "not with gradient checkpointing"},
    "sharding": {False: "not with sharded weights (FSDP)"},
    "reads_train": {False: "reads no training data"},
}


def choice(group: str, name: str, folders: Sequence[Path] = ()) -> str:
    """A file in words.

    Raises:
        ConfigError: there is none of that name, or it can't be read.
    """
    from peftbench.config import loading  # Brings Hydra, which the plain list does without.

    files = paths.choice_files(group, folders)
    name = exact(name, list(files))
    if name not in files:
        raise ConfigError(f"list {group} {name}: no such {group}; {nearest(name, sorted(files))}")
    content = loading.read_yaml(files[name])
    lines = [f"{group}={name}", *_wrapped(_header(files[name])), ""]
    lines += [f"{label + ':':15}{text}" for label, text in _facts(group, content) if text]
    lines += [f"{'values:':15}{paths.shown(files[name])}", *(f"  {line}" for line in _values(content))]
    used = list(_uses(group, name, folders))
    lines += ["", f"used by: {', '.join(used)}" if used else "used by no experiment or prepared sweep"]
    if group in ("dataset", "model", "method"):
        lines += list(_numbers(group, name))
    return "\n".join(map(escape.line, lines))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _header(file: Path) -> str:
    """The comment that a file opens with."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(line for line in lines if not line.startswith("@"))


def _facts(group: str, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts that a method's file says of it, by label, in words; of other groups the source alone."""
    yield "source", str(content.get("source") or "")
    if group != "method":
        return
    yield "family", str(content.get("family") or "")
    yield "architectures", ", ".join(map(str, content.get("supports") or []))
    yield "formulations", ", ".join(map(str, content.get("formulations") or []))
    promises = [words[content[key]] for key, words in _PROMISES.items() if content.get(key) in words]
    yield "promises", "; ".join(promises)
    search = content.get("search") or {}
    tried = [
        f"{key} {' to '.join(map(_number, values)) if key.endswith('lr') else ', '.join(map(_number, values))}"
        for key, values in search.items()
    ]
    yield "tune=N tries", "; ".join(tried) or "nothing"
    yield "match= sets", ", ".join(map(str, content.get("size") or ["nothing"]))


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(content: dict[str, Any]) -> list[str]:
    """The file's keys that nothing above says."""
    shown = {"source", "family", "summary", "supports", "formulations", "search", "size", *_PROMISES}
    rest = {key: value for key, value in content.items() if key not in shown}
    return yaml.safe_dump(rest, sort_keys=False, allow_unicode=True, width=_WIDTH).splitlines() if rest else []


def _uses(group: str, name: str, folders: Sequence[Path]) -> Iterator[str]:
    """The experiments and prepared sweeps whose file names a choice."""
    for other in ("experiment", "sweep"):
        for user, file in paths.choice_files(other, folders).items():
            text = file.read_text(encoding="utf-8", errors="replace")
            if other != group and name in _chosen(text, group):
                yield f"{other}={user}"


def _chosen(text: str, group: str) -> set[str]:
    """The choices of a group that a YAML file names: in its defaults, or among a sweep's values."""
    names: set[str] = set()
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].strip().removeprefix("- ").partition(":")
        if colon and key.removeprefix("override ").strip().lstrip("/") == group:
            names |= {part.strip(" '\"[]") for part in value.split(",")}
    return names


def _numbers(group: str, name: str) -> Iterator[str]:
    """Lines that say how many records of it there are, and where: in results/ here, and in those that are published in
    a checkout."""
    depth = ("dataset", "model", "method").index(group)
    pattern = "/".join([*(["*"] * depth), name, *(["*"] * (2 - depth)), "*.json"])
    published = paths.PACKAGE.parent / "results" / "published"
    folders = [Path("results"), *(sorted(published.iterdir()) if published.is_dir() else [])]
    counts = {folder: len(_records(folder / "records", pattern)) for folder in folders}
    for folder, count in counts.items():
        if count:
            yield f"numbers: {count} {'record' if count == 1 else 'records'} in {paths.shown(folder)}"
    if not any(counts.values()):
        yield "numbers: no records in results/ or among those that are published"


def _records(folder: Path, pattern: str) -> list[Path]:
    """Completed runs' records: failed tries and notes have a second dot in their names."""
    return [file for file in folder.glob(pattern) if "." not in file.stem]
