"""`peftbench list`: what there is to choose from, read from conf/ itself."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from peftbench.config import described, markdown, paths
from peftbench.config.arguments import config_dirs
from peftbench.errors import ConfigError, exact, nearest
from peftbench.system import escape

_LEGEND = "E encoder, D decoder, ED encoder-decoder; merges: folds into the weights, no cost at inference"
_METHOD_COLUMNS = ("method", "family", "summary", "models", "merges", "source")


def main(arguments: Sequence[str]) -> int:
    """Print one group, the keys, or the names of all groups; with `format=markdown` a group's table as Markdown."""
    words, folders = config_dirs(list(arguments))
    as_markdown = "format=markdown" in words
    words = [word for word in words if word != "format=markdown"]
    by_plural = {paths.plural(group): group for group in paths.groups()}
    if len(words) > 2:
        raise ConfigError(f"list: takes a group and a name in it, not {len(words)} words")
    names, words = words[1:], [exact(word, [*by_plural, *by_plural.values(), paths.KEYS]) for word in words[:1]]
    if names and words == [paths.KEYS]:
        raise ConfigError(f"list keys: takes no {names[0]}")
    if words == [paths.KEYS]:
        from peftbench.config import keys  # Reads sources, which nothing else here needs.

        print(keys.markdown(), end="")
        return 0
    if words and words[0] not in by_plural and words[0] not in by_plural.values():
        raise ConfigError(f"list {words[0]}: no such group; {nearest(words[0], sorted(paths.listable()))}")
    if words:
        group = by_plural.get(words[0], words[0])
        if names:
            print(described.choice(group, names[0], folders))
            return 0
        print(_group(group, paths.choice_files(group, folders), as_markdown=as_markdown))
        return 0
    if as_markdown:
        raise ConfigError("list format=markdown: takes one group")
    for name, group in by_plural.items():
        print(escape.line(f"{name + ':':13}{', '.join(paths.choices(group, folders)) or '-'}"))
    return 0


def _group(group: str, files: dict[str, Path], *, as_markdown: bool) -> str:
    rows, unreadable = _rows(files)
    legend = f"{_LEGEND}\n\n" if group == "method" else ""
    if not as_markdown:
        return legend + "\n".join([*_aligned(rows), *unreadable])
    head = _METHOD_COLUMNS if group == "method" else (group, "what it is")
    return legend + "\n".join([markdown.table(head, [[f"`{name}`", *cells] for name, *cells in rows]), *unreadable])


def _rows(files: dict[str, Path]) -> tuple[list[list[str]], list[str]]:
    """Each file's name, the fields that such a file has and that fit a cell, and what it is in words; and a line for
    each file that can't be read."""
    rows: list[list[str]] = []
    unreadable: list[str] = []
    for name, file in sorted(files.items()):
        try:
            rows.append([escape.line(cell) for cell in _row(name, file)])
        except ConfigError as error:
            unreadable.append(escape.line(f"{name}: {error}"))
    return rows, unreadable


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]


def _row(name: str, file: Path) -> list[str]:
    config = _read(file)
    if "summary" not in config or not isinstance(config.get("supports"), list):
        return [name, str(config["summary"]) if "summary" in config else _comment(file)]
    families = {"encoder": "E", "decoder": "D", "encoder_decoder": "ED"}
    supports = " ".join(families[family] if family in config["supports"] else "-" for family in families)
    merges = "" if config.get("mergeable") is None else "merges" if config["mergeable"] else "-"
    source = str(config.get("source") or "").partition(",")[0].partition(";")[0]
    return [name, str(config.get("family") or ""), str(config["summary"]), supports, merges, source]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML by libyaml where that is there, ten times as fast; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises:
            yaml.YAMLError: a key is there twice.
        """
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value) and not any(key.value == "<<" for key, _ in node.value):
            raise yaml.YAMLError("duplicate key")
        return mapping


def _read(file: Path) -> dict[str, Any]:
    """The content of a file, read without Hydra, whose import takes half the time of this command.

    Raises:
        ConfigError: as `loading.read_yaml`, which says what is wrong.
    """
    try:
        content = _Loader(file.read_bytes()).get_single_data()
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if isinstance(content, dict):
        return content
    from peftbench.config import loading

    return loading.read_yaml(file)


def _comment(file: Path) -> str:
    """The header's first sentence: every file opens with what it is."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    text = " ".join(lines)
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
