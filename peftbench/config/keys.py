"""The keys of a run, read off conf/ and `types.py`: `peftbench list keys`, which docs/keys.md is made of."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.config import paths, types
from peftbench.config.loading import read_yaml

#: Groups whose keys every file of theirs has: the file that says what is when nothing is said.
_DEFAULTS = {"recipe": "default", "hardware": "cpu"}
#: Groups whose files differ in what they have: their keys are those of the dataclass.
_TYPED = {"method": types.MethodConfig, "dataset": types.DatasetConfig, "model": types.ModelConfig}


@dataclass(frozen=True)
class Key:
    """One key: its default (None where each file has its own), what is allowed (None: its type says), what it means."""

    name: str
    default: str | None
    allowed: str | None
    meaning: str


def of_run() -> list[Key]:
    """The keys of conf/config.yaml, in its order."""
    return list(_of_file(paths.CONF / "config.yaml", types.RunConfig, ""))


def of_group(group: str) -> list[Key]:
    """The keys that a group's files have."""
    if group in _DEFAULTS:
        kind = next(f.type for f in dataclasses.fields(types.RunConfig) if f.name == group)
        return list(_of_file(paths.CONF / group / f"{_DEFAULTS[group]}.yaml", kind, f"{group}."))
    return list(_of_type(_TYPED[group], f"{group}."))


def markdown() -> str:
    """All keys as Markdown, a table a group."""
    parts = ["## A run", _table(of_run())]
    for group in (*_DEFAULTS, *_TYPED):
        parts += [f"## `{group}`", _table(of_group(group))]
    return "\n\n".join(parts) + "\n"


def _table(keys: list[Key]) -> str:
    with_default = any(key.default is not None for key in keys)
    head = ["key", *(["default"] if with_default else []), "allowed", "meaning"]
    rows = [
        [f"`{key.name}`", *([_code(key.default)] if with_default else []), key.allowed or "", key.meaning]
        for key in keys
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _code(default: str | None) -> str:
    return "" if default is None else f"`{default}`"


def _of_file(file: Path, kind: Any, prefix: str) -> Iterator[Key]:
    """The keys at the top level of a file: with the comment above each, and what `kind` allows."""
    values = read_yaml(file)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, comment in _comments(file):
        if name in fields:
            yield Key(prefix + name, _written(values[name]), _allowed(fields[name]), comment)


def _comments(file: Path) -> Iterator[tuple[str, str]]:
    """Every key at the top level with the comment right above it. The file's first comment is about the file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    said: list[str] = []
    for line in lines[start:]:
        key = re.match(r"(\w+):", line)
        if line.startswith("#"):
            said.append(line.lstrip("# "))
            continue
        if key:
            yield key[1], " ".join(said)
        said = []


def _of_type(kind: Any, prefix: str) -> Iterator[Key]:
    """The fields of a dataclass: with what its docstring's attributes or the comment above a field say."""
    said = {**_attributes(inspect.getdoc(kind) or ""), **_above(inspect.getsource(kind))}
    for field in dataclasses.fields(kind):
        if field.name not in ("name", "target"):
            yield Key(prefix + field.name, None, _allowed(field), said.get(field.name, ""))


def _attributes(doc: str) -> dict[str, str]:
    """What a docstring says under `Attributes:`; several names may stand before one colon."""
    section = doc.partition("Attributes:\n")[2]
    said: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w)", "\n" + section):
        names, _, text = " ".join(entry.split()).partition(": ")
        said |= {name.strip(" `"): text for name in names.split(",") if text}
    return said


def _above(source: str) -> dict[str, str]:
    """What `#:` comments right above a field say."""
    said: dict[str, str] = {}
    for comment, name in re.findall(r"((?:^ +#: .*\n)+) +(\w+):", source, flags=re.MULTILINE):
        said[name] = " ".join(line.strip().removeprefix("#: ") for line in comment.splitlines())
    return said


def _allowed(field: "dataclasses.Field[Any]") -> str:
    rule = field.metadata.get("rule")
    optional = type(None) in typing.get_args(field.type)
    text = rule.allowed if rule is not None else _type(field.type)
    return f"{text}, or null" if optional else text


def _type(kind: Any) -> str:
    """A type in words."""
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    if typing.get_origin(kind) is typing.Union:
        return _type(inner[0])
    origin = typing.get_origin(kind) or kind
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a mapping",
    }
    return words.get(origin, "keys of its own" if dataclasses.is_dataclass(kind) else "")


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(part) for part in value) + "]"
    return str(value)
