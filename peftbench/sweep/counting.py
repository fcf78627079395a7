"""`peftbench reproduce counts`: published parameter counts against ours, on the meta device."""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peftbench.config import compose, loading, paths
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, Failed
from peftbench.results.reproduction import counts
from peftbench.results.reproduction.counts import Judged
from peftbench.system import escape, process


def main(arguments: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """Print every published count with ours and what the difference is; 1 if one is unexplained by its row."""
    rows = _rows(arguments)
    judged = _judged(rows, folders)
    width = max(len(one.id) for one in judged)
    for one in judged:
        counted = "" if one.counted is None else f"{one.counted:,}"
        why = f"  {one.why}" if one.why else ""
        print(escape.line(f"{one.id:{width}}  {one.printed:>15}  {counted:>15}  {one.verdict}{why}  [{one.source}]"))
    totals = Counter(one.verdict for one in judged)
    print(f"\n{len(judged)} published counts: {', '.join(f'{n} {verdict}' for verdict, n in totals.most_common())}")
    return 1 if any(one.verdict == counts.UNEXPLAINED and one.why.endswith(" expected") for one in judged) else 0


def _rows(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The rows whose fields meet `method=`, `shape=`, `source=` or `id=`."""
    rows = list(counts.published()["rows"])
    for word in arguments:
        key, separator, value = word.partition("=")
        if not separator or key not in ("id", "method", "shape", "source"):
            raise ConfigError(f"reproduce counts: {word}: allowed are id=, method=, shape=, source=")
        rows = [row for row in rows if fnmatch.fnmatchcase(str(row[key]), value)]
        if not rows:
            raise ConfigError(f"reproduce counts: {word}: no published count is of that {key}")
    return rows


def _judged(rows: Sequence[dict[str, Any]], folders: Sequence[Path]) -> list[Judged]:
    methods = paths.choices("method", folders)
    composed = {row["id"]: _composed(row) for row in rows if row["method"] in methods}
    asked = [(row, composed[row["id"]]) for row in rows if row["id"] in composed]
    with TemporaryDirectory() as folder:
        outcome = process.call("peftbench.run.counts:count", asked, log=Path(folder, "counts.log"))
    if outcome.result is None:
        raise Failed(f"reproduce counts: {outcome.error}")
    by_id = {row["id"]: one for (row, _), one in zip(asked, outcome.result, strict=True)}
    return [counts.judge(row, by_id.get(row["id"])) for row in rows]


def _composed(row: dict[str, Any]) -> RunConfig:
    with compose.session(), compose.resolving():
        words = compose.in_hydras_words(counts.words(row), ())
        return loading.load_composed(compose.composed(words))
