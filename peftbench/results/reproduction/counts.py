"""Published counts of trained weights (conf/claims/counts.yaml), and what a count of ours makes of each."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peftbench.config import paths
from peftbench.config.loading import read_yaml
from peftbench.errors import ConfigError

#: What a count of ours says of a printed one.
EXACT, EXPLAINED, ERROR, UNEXPLAINED = "exact", "explained", "the source's error", "unexplained"
NOT_COUNTED = "not counted"
_KINDS = {"convention": EXPLAINED, "error": ERROR, "unexplained": UNEXPLAINED}
#: What transformers calls the number of layers.
_DEPTHS = ("num_hidden_layers", "n_layer")


@dataclass(frozen=True)
class Judged:
    """A printed count beside ours; None: it isn't counted. `why` says what a difference is due to."""

    id: str
    source: str
    printed: str
    counted: int | None
    verdict: str
    why: str = ""


@functools.cache
def published() -> dict[str, Any]:
    """The file: `models` by shape, `sources`, `rows`."""
    return read_yaml(paths.CONF / paths.CLAIMS / "counts.yaml")


def words(row: Mapping[str, Any]) -> list[str]:
    """The command line that composes a row's method, on a small model that names its modules as the published one."""
    carrier = published()["models"][row["shape"]]["carrier"]
    return [f"model={carrier}", f"method={row['method']}", "dataset=sst2", *row.get("overrides", [])]


def shape(row: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The transformers configuration at the row's depth, and how often that goes into the published one.

    Raises:
        ConfigError: it doesn't, an exact number of times.
    """
    config = dict(published()["models"][row["shape"]]["config"])
    if "layers" not in row:
        return config, 1
    depth = next(name for name in _DEPTHS if name in config)
    times, rest = divmod(config[depth], row["layers"])
    if rest:
        raise ConfigError(
            f"conf/claims/counts.yaml: {row['id']}: {config[depth]} layers aren't {row['layers']} times n"
        )
    return config | {depth: row["layers"]}, times


def judge(row: Mapping[str, Any], counts: Mapping[str, int] | None) -> Judged:
    """The judgement on a row by our count.

    Args:
        counts: `adapter`, `trainable`, `total`, ...; None: it couldn't be made, as the row's `skip` says.
    """
    source = published()["sources"][row["source"]]
    if counts is None:
        return Judged(row["id"], source, row["printed"], None, NOT_COUNTED, row.get("skip", "it can't be built"))
    counted = counts[row.get("count", "adapter")]
    why = str(row.get("why", ""))
    # Rank 16 of the scripts agrees with the print, and the paper's own rank doesn't: the row says so.
    if row.get("kind") != "error" and _same(row["printed"], counted, counts):
        return Judged(row["id"], source, row["printed"], counted, EXACT, why)
    explained = counted == row["expected"] and why
    verdict = _KINDS[row.get("kind", "convention")] if explained else UNEXPLAINED
    return Judged(
        row["id"], source, row["printed"], counted, verdict, why if explained else f"{row['expected']:,} expected"
    )


def _same(printed: str, counted: int, counts: Mapping[str, int]) -> bool:
    if not printed.endswith("%"):
        return agrees(printed, counted)
    # Of the model alone, or with the adapter: papers do either.
    return any(
        agrees(printed, 100 * counted / base) for base in (counts["total"], counts["total"] - counts["trainable"])
    )


def agrees(printed: str, figure: float) -> bool:
    """True if a number, rounded or cut to as many digits, is the printed one: 0.3M, 737K, 1,024, 0.83%."""
    match = re.fullmatch(r"([\d,]+)(?:\.(\d+))?([KkM%]?)", printed)
    if match is None:
        return False
    whole, decimals, suffix = match.groups()
    scale = {"K": 1e3, "k": 1e3, "M": 1e6}.get(suffix, 1)
    value = float(f"{whole.replace(',', '')}.{decimals or 0}") * scale
    return bool(abs(figure - value) < scale / 10 ** len(decimals or ""))
