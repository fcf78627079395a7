"""`peftbench completion SHELL`: what a shell reads to complete command lines, and the candidates that it asks for then.

Everything that can be completed is read from where it is: groups, choices and keys from conf/, a command's words from
its line of `peftbench help`. Nothing slow is imported: not Hydra, nor a YAML reader, for which a person would wait at
every press of the key.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from peftbench.config import paths
from peftbench.config.arguments import FOLDERS, config_dirs
from peftbench.errors import ConfigError, nearest

#: The word by which a shell asks for candidates.
_ASKED = "candidates"
_SHELLS = Path(__file__).with_name("shells")
#: What commands that describe runs have on their line of help instead of naming every key.
_RUNS = re.compile(r"\[\.\.\.]|group=choice")
_KEY = re.compile(r"^( *)(?:- )?([\w-]+):(?: +([^#\s][^#]*?))?\s*(?:#.*)?$")


def main(arguments: Sequence[str], usage: str, commands: Sequence[str]) -> int:
    """Print a shell's script, or the candidates for the last of the words, a line each.

    Args:
        usage: all of `peftbench help`.
        commands: their names.
    """
    if arguments[:1] == [_ASKED]:
        words = list(arguments[1:]) or [""]
        print("\n".join(candidates(words[:-1], words[-1], usage=usage, commands=commands)))
        return 0
    scripts = {file.suffix[1:]: file for file in sorted(_SHELLS.glob("peftbench.*"))}
    if len(arguments) != 1 or arguments[0] not in scripts:
        raise ConfigError(f"completion {' '.join(arguments)}: {nearest(' '.join(arguments), list(scripts))}")
    print(scripts[arguments[0]].read_text(encoding="utf-8"), end="")
    return 0


def candidates(before: Sequence[str], word: str, *, usage: str, commands: Sequence[str]) -> list[str]:
    """The words that a word may become, given those before it. Keys end in `=`, sections of keys in a dot."""
    folders: list[Path] = []
    try:
        words, folders = config_dirs(list(before))
    except ConfigError:  # A folder that isn't there: its choices can't be shown.
        words = list(before)
    if before and before[-1] in FOLDERS:
        return []  # The shell knows folders.
    command = next((one for one in words if one in commands), None)
    if word.startswith("-"):
        options = re.findall(r"(?<=\s)--?[a-z][\w-]*", usage.partition("Options:")[2])
        return _beginning(sorted(options), word)
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, separator, value = word.removeprefix(sign).partition("=")
    if separator and command not in ("list", "help", "completion"):
        return [f"{sign}{key}={made}" for made in _values(key, value, words, folders)]
    named = _words(command, words, usage, commands, folders)
    if named is None:
        named = [] if command is not None or words else list(commands)
        named += _keys(key, words, folders)
    return [sign + one for one in _beginning(named, key) if sign + one not in before]


def _words(
    command: str | None, words: Sequence[str], usage: str, commands: Sequence[str], folders: Sequence[Path]
) -> list[str] | None:
    """The words that a command takes; None: the keys of runs."""
    if command is None:
        return None
    if command == "help":
        return list(commands)
    if command == "completion":
        return [file.suffix[1:] for file in sorted(_SHELLS.glob("peftbench.*"))]
    if command == "list":
        groups = {name: group for group in paths.groups() for name in (group, paths.plural(group))}
        named = next((groups[word] for word in words if word in groups), None)
        return sorted(paths.listable()) if named is None else paths.choices(named, folders)
    line = next((one for one in usage.splitlines() if f" peftbench {command} " in one), "")
    return None if _RUNS.search(line) else [f"{key}=" for key in re.findall(r"([\w.]+)=", line)]


def _values(key: str, value: str, words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The values that a key may take; after a comma, those that may stand there."""
    head, last = re.fullmatch(r"(.*[,\[(]|)([^,\[(]*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    taken = re.split(r"[,\[(]", head)
    if key in paths.groups():
        allowed = paths.choices(key, folders)
    else:
        allowed = ["true", "false"] if _default(key, words, folders) in ("true", "false") else []
    return [head + one for one in _beginning(allowed, last) if one not in taken]


def _keys(word: str, words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Groups, and keys as far down as the word goes."""
    groups = paths.groups()
    if "." not in word:
        top = [name for name, _ in _of_file(paths.CONF / "config.yaml") if "." not in name and name != "defaults"]
        return [*(f"{group}=" for group in groups), *(f"{group}." for group in groups), *(f"{name}=" for name in top)]
    group = word.partition(".")[0]
    names = [f"{group}.{name}" for name, _ in _of_group(group, words, folders)]
    depth = word.count(".")
    down = {".".join(name.split(".")[: depth + 1]) + ("." if name.count(".") > depth else "=") for name in names}
    return sorted(one for one in down if one.count(".") - one.endswith(".") == depth)


def _default(key: str, words: Sequence[str], folders: Sequence[Path]) -> str | None:
    """The value that a key has in the files that the line chooses."""
    group, _, name = key.partition(".")
    pairs = _of_group(group, words, folders) if name else _of_file(paths.CONF / "config.yaml")
    return dict(pairs).get(name or key)


def _of_group(group: str, words: Sequence[str], folders: Sequence[Path]) -> list[tuple[str, str]]:
    """The keys of a group's file: of the one that the line chooses, else of the one that conf/config.yaml does."""
    chosen = [value for word in words for name, _, value in [word.lstrip("+").partition("=")] if name == group]
    usual = re.search(rf"^  - {re.escape(group)}: (\S+)$", (paths.CONF / "config.yaml").read_text(), re.MULTILINE)
    named = [*(chosen[-1].strip("[]").split(",") if chosen else []), *([usual[1]] if usual else [])]
    files = paths.choice_files(group, folders)
    pairs = next((_of_file(files[name]) for name in named if name in files), [])
    if group == "dataset":
        from peftbench.config.dataset_types import USUAL  # Dataclasses, for which the other words needn't wait.

        pairs += [(f"{at}.{key}", str(value)) for at, keys in USUAL.items() for key, value in keys.items()]
    return pairs


def _of_file(file: Path) -> list[tuple[str, str]]:
    """The keys of a YAML file by their dotted names, with what stands beside them; read by how lines are indented."""
    pairs: list[tuple[str, str]] = []
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = None if line.lstrip().startswith("- ") else _KEY.match(line)
        if match is None:
            continue
        indent, name, value = len(match[1]), match[2], match[3] or ""
        above = [one for one in above if one[0] < indent] + [(indent, name)]
        pairs.append((".".join(part for _, part in above), value))
    inner = {name.rpartition(".")[0] for name, _ in pairs}
    return [(name, value) for name, value in pairs if name not in inner]


def _beginning(names: Sequence[str], word: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(word)]
