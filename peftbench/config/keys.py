"""The keys of a run, read off conf/ and the dataclasses: `peftbench list keys`, which docs/keys.md is made of."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from peftbench.config import paths, types
from peftbench.config.dataset_types import USUAL, DatasetConfig
from peftbench.config.loading import read_yaml
from peftbench.config.markdown import table as markdown_table
from peftbench.config.values import as_word

#: Groups whose files all have the same keys, with the file that a run takes by default.
_DEFAULTS = {"recipe": "default", "hardware": "cpu", "hosted": "default"}
#: Groups whose files differ in the keys they have: all keys are those of the dataclass.
_TYPED = {"method": types.MethodConfig, "dataset": DatasetConfig, "model": types.ModelConfig}


@dataclass(frozen=True)
class Key:
    """One key: its default (None where each file has its own), what is allowed (None: its type says), what it means."""

    name: str
    default: str | None
    allowed: str | None
    meaning: str


def of_run() -> list[Key]:
    """The keys of conf/config.yaml, in its order: the groups, then the rest."""
    return list(_of_file(paths.CONF / "config.yaml", types.RunConfig, ""))


def of_group(group: str) -> list[Key]:
    """The keys that a group's files have."""
    if group in _DEFAULTS:
        kind = _inner(next(f.type for f in dataclasses.fields(types.RunConfig) if f.name == group))
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
        [f"`{key.name}`", *([_code(key.default)] if with_default else []), key.allowed or "", _prose(key.meaning)]
        for key in keys
    ]
    return markdown_table(head, rows)


def _prose(meaning: str) -> str:
    """A meaning as a sentence in Markdown: what Markdown would take for markup is escaped."""
    return (meaning[:1].upper() + meaning[1:]).replace("<", "&lt;").replace("*", "\\*")


def _code(default: str | None) -> str:
    return "" if default is None else f"`{default}`"


def _of_file(file: Path, kind: Any, prefix: str) -> Iterator[Key]:
    """The keys at the top level of a file: with the comment above each, and what `kind` allows."""
    values = read_yaml(file)
    chosen = [entry for entry in values.get("defaults", []) if isinstance(entry, dict)]
    values |= {name: choice for entry in chosen for name, choice in entry.items()}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, comment in _comments(file):
        if name in fields:
            yield Key(prefix + name, as_word(values[name], space=" "), _allowed(fields[name], prefix), comment)


def _comments(file: Path) -> Iterator[tuple[str, str]]:
    """Every key at the top level, and every group in the defaults list, with the comment right above it. The file's
    first comment is about the file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    comment: list[str] = []
    for line in lines[start:]:
        key = re.match(r"(?:  - )?(\w+):", line)
        if re.match(r"(?:  )?#", line):
            comment.append(line.lstrip("# "))
            continue
        if key:
            yield key[1], " ".join(comment)
        comment = []


def _of_type(kind: Any, prefix: str) -> Iterator[Key]:
    """The fields of a dataclass: with what its docstring's attributes or the comment above a field say."""
    meanings = {**_attributes(inspect.getdoc(kind) or ""), **_above(inspect.getsource(kind))}
    for field in dataclasses.fields(kind):
        if field.name not in ("name", "target"):
            yield Key(prefix + field.name, None, _allowed(field, prefix), meanings.get(field.name, ""))


def _attributes(doc: str) -> dict[str, str]:
    """The meanings that a docstring lists under `Attributes:`, by name; several names may stand before one colon."""
    section = doc.partition("Attributes:\n")[2]
    meanings: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w)", "\n" + section):
        names, _, text = " ".join(entry.split()).partition(": ")
        meanings |= {name.strip(" `"): text for name in names.split(",") if text}
    return meanings


def _above(source: str) -> dict[str, str]:
    """The meanings that `#:` comments right above fields give, by field."""
    meanings: dict[str, str] = {}
    for comment, name in re.findall(r"((?:^ +#: .*\n)+) +(\w+):", source, flags=re.MULTILINE):
        meanings[name] = " ".join(line.strip().removeprefix("#: ") for line in comment.splitlines())
    return meanings


def _allowed(field: "dataclasses.Field[Any]", prefix: str) -> str:
    if not prefix and field.name in paths.groups():
        return f"a name in `peftbench list {paths.plural(field.name)}`"
    rule = field.metadata.get("rule")
    optional = type(None) in typing.get_args(field.type)
    text = rule.allowed if rule is not None else _type(field.type)
    if prefix == "dataset." and field.name in USUAL:
        text = f"{text}, by default {as_word(USUAL[field.name], space=' ')}"
    return f"{text}, or null" if optional else text


def _type(kind: Any) -> str:
    """A type in words."""
    kind = _inner(kind)
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


def _inner(kind: Any) -> Any:
    """The type within `Optional[...]`; any other type as it is."""
    if typing.get_origin(kind) not in (typing.Union, UnionType):
        return kind
    return next(part for part in typing.get_args(kind) if part is not type(None))
