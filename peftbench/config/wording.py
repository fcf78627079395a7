"""What a command line means although it isn't written so: names in another case, several loggers, a space too many."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from peftbench.config.dataset_types import DatasetConfig
from peftbench.errors import ConfigError, exact

#: A choice's name in what is written behind `=`.
_NAME = re.compile(r"[\w.+/-]+")
#: Keys that a data set's file may leave out and the command line may set, they or what is below them.
ANYWHERE = [f"dataset.{f.name}" for f in dataclasses.fields(DatasetConfig) if f.metadata.get("anywhere")]
#: Several loggers of one run.
_SEVERAL = re.compile(r"logger=\[([\w\s,.'\"/+-]*)\]", re.IGNORECASE)


def quoted(text: str) -> str:
    """A text as Hydra reads it back, whatever characters it has."""
    return QuotedString(text, Quote.single).with_quotes()


def canonical(arguments: Sequence[str], allowed: Mapping[str, Sequence[str]]) -> list[str]:
    """The arguments with groups and their choices in the case in which they are called, and one for each logger.

    Args:
        allowed: the choices of every group.
    """
    cased = [_cased(argument, allowed) for argument in arguments]
    return [_anywhere(part) for argument in cased for part in _loggers(argument)]


def _anywhere(argument: str) -> str:
    """The argument with `++` before a key that any data set takes, whether its file has it or not."""
    key = argument.partition("=")[0]
    return f"++{argument}" if ".".join(key.split(".")[:2]) in ANYWHERE else argument


def _cased(argument: str, allowed: Mapping[str, Sequence[str]]) -> str:
    left, equals, value = argument.partition("=")
    bare = left.lstrip("+~")
    name, at, package = bare.partition("@")
    group = exact(name, list(allowed))
    if group not in allowed:
        return argument
    value = _NAME.sub(lambda match: exact(match.group(), allowed[group]), value)
    return f"{left[: len(left) - len(bare)]}{group}{at}{package}{equals}{value}"


def _loggers(argument: str) -> list[str]:
    """`logger=[csv,wandb]` as Hydra can compose it: each in a section of its own."""
    several = _SEVERAL.fullmatch(argument)
    if several is None:
        return [argument]
    names = [name.strip(" '\"") for name in several.group(1).split(",")]
    names = [name for name in dict.fromkeys(names) if name not in ("", "none")]
    if len(names) < 2:
        return [f"logger={(names or ['none'])[0]}"]
    return ["logger=none", *(f"+logger@logger.{name.replace('/', '_')}={name}" for name in names)]


def check_spaces(arguments: Sequence[str]) -> None:
    """Raises ConfigError where a space in a list has made two arguments of one."""
    for i, argument in enumerate(arguments):
        joined = [argument]
        for following in arguments[i + 1 :]:
            if not _is_open(joined[-1], " ".join(joined), following):
                break
            joined.append(following)
        if len(joined) > 1:
            argument = re.sub(r"\s*([,=])\s*", r"\1", " ".join(joined))
            raise ConfigError(f"{' '.join(joined)!r}: a space ends an argument; write {shlex.quote(argument)}")


def _is_open(last: str, so_far: str, following: str) -> bool:
    """True if an argument goes on in the following one."""
    if following.startswith("-") and not following.startswith("-="):
        return False
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", so_far)
    unclosed = "'" not in bare and any(bare.count(left) > bare.count(right) for left, right in ("[]", "{}", "()"))
    return following.startswith((",", "=")) or ("=" not in following and (last.endswith((",", "=")) or unclosed))


def hint(argument: str) -> str:
    """The advice on what to write where Hydra can't read an argument; empty where nothing is known."""
    key, equals, value = argument.partition("=")
    if value.endswith(",") or value.startswith(","):
        return f"ends or begins with a comma: several values are {key}=a,b, without spaces"
    if equals and value and key and re.search(r"[^\w\s/\\+.$%*@?|,:()\[\]{}-]|[^\x00-\x7f]", value):
        return f"has signs that need quotes within quotes: {shlex.quote(f'{key}={quoted(value)}')}"
    return ""


def meant(key: str, tree: Mapping[Any, Any]) -> list[str]:
    """The keys that a key may have been meant for: those that end as it does, below its own parent if there are some.

    Args:
        key: as it was written: `lr`, `method.r`.
        tree: the configuration, nested.
    """
    where, _, last = key.rpartition(".")
    same = [dotted for dotted in _dotted(tree) if re.split("[./]", dotted)[-1] == last and dotted != key]
    return [dotted for dotted in same if dotted.startswith(f"{where}.")] or same


def _dotted(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, part in tree.items():
        yield f"{prefix}{name}"
        if isinstance(part, Mapping):
            yield from _dotted(part, f"{prefix}{name}.")
