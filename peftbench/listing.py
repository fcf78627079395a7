"""`peftbench list`: what there is to choose from, read from conf/ itself."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from peftbench import escape, paths, schema
from peftbench.cli import config_dirs
from peftbench.errors import ConfigError, exact, nearest


def main(arguments: Sequence[str]) -> int:
    """Print one group, or the names of all."""
    words, folders = config_dirs(list(arguments))
    plural = {_plural(group): group for group in paths.groups()}
    if len(words) > 1:
        raise ConfigError(f"list: takes one group, not {len(words)}")
    words = [exact(word, [*plural, *plural.values()]) for word in words]
    if words and words[0] not in plural and words[0] not in plural.values():
        raise ConfigError(f"list {words[0]}: no such group; {nearest(words[0], sorted(plural))}")
    if words and plural.get(words[0], words[0]) == "method":
        print("E encoder, D decoder, ED encoder-decoder; merges: folds into the weights, no cost at inference\n")
    if words:
        group = plural.get(words[0], words[0])
        print(_table(paths.choice_files(group, folders)))
        return 0
    for name, group in plural.items():
        print(escape.line(f"{name + ':':13}{', '.join(paths.choices(group, folders)) or '-'}"))
    return 0


def _plural(group: str) -> str:
    return group if group == "hardware" else f"{group}s"


def _table(files: dict[str, Path]) -> str:
    """Name, the fields that such a file has and that fit a cell, and what it is in words."""
    rows: list[list[str]] = []
    unreadable: list[str] = []
    for name, file in sorted(files.items()):
        try:
            rows.append([escape.line(cell) for cell in _row(name, file)])
        except ConfigError as error:
            unreadable.append(escape.line(f"{name}: {error}"))
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "\n".join([*lines, *unreadable])


def _row(name: str, file: Path) -> list[str]:
    config = schema.read_yaml(file)
    if "summary" not in config or not isinstance(config.get("supports"), list):
        return [name, str(config["summary"]) if "summary" in config else _comment(file)]
    families = {"encoder": "E", "decoder": "D", "encoder_decoder": "ED"}
    supports = " ".join(families[family] if family in config["supports"] else "-" for family in families)
    merges = "" if config.get("mergeable") is None else "merges" if config["mergeable"] else "-"
    source = str(config.get("source") or "").partition(",")[0].partition(";")[0]
    return [name, str(config.get("family") or ""), str(config["summary"]), supports, merges, source]


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
