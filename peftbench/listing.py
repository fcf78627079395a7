"""`peftbench list`: what there is to choose from, read from conf/ itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench import paths, schema
from peftbench.cli import config_dirs
from peftbench.errors import ConfigError, nearest


def main(arguments: Sequence[str]) -> int:
    """Print one group, or the names of all."""
    words, folders = config_dirs(list(arguments))
    plural = {_plural(group): group for group in paths.groups()}
    if len(words) > 1:
        raise ConfigError(f"list: takes one group, not {len(words)}")
    if words and words[0] not in plural and words[0] not in plural.values():
        raise ConfigError(f"list {words[0]}: no such group; {nearest(words[0], sorted(plural))}")
    if words:
        group = plural.get(words[0], words[0])
        print(_table(paths.choice_files(group, folders)))
        return 0
    for name, group in plural.items():
        print(f"{name + ':':13}{', '.join(paths.choices(group, folders)) or '-'}")
    return 0


def _plural(group: str) -> str:
    return group if group == "hardware" else f"{group}s"


def _table(files: dict[str, Path]) -> str:
    """Name, the fields that every file has and that fit a cell, and the first comment."""
    rows = [[name, *_fields(schema.read_yaml(file)), _comment(file)] for name, file in sorted(files.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _fields(config: dict[str, Any]) -> list[str]:
    lr = config.get("lr")
    shown = [config.get("family"), f"lr {lr:g}" if isinstance(lr, int | float) else None]
    return [str(value or "") for value in shown]


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
