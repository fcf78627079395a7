"""Scored rows whose text was trained on too: their score says less than it seems to."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from peftbench.config import paths
from peftbench.config.types import RunConfig
from peftbench.data import sources
from peftbench.data.encode import Encoded
from peftbench.data.examples import Reader, column
from peftbench.data.sources import DataSource
from peftbench.system import cached, files, fingerprint

#: Training rows whose texts are in memory at a time.
_CHUNK = 10_000


class Divided(Protocol):
    """The part of a data module, once it is set up, that counting repeats needs."""

    config: RunConfig
    train: Encoded
    slices: dict[str, Encoded | None]

    @property
    def source(self) -> DataSource: ...

    @property
    def reader(self) -> Reader: ...


#: A part's place in the names of slices (`<part>/` in a mixture), and its data.
Parts = Sequence[tuple[str, Divided]]

#: The texts of a row, by column.
Texts = tuple[str, ...]


@dataclass(frozen=True)
class Repeats:
    """The repeats in an evaluation split: how many rows were scored, how many of them stand among the rows trained on
    word for word, and how many if case and white space don't count."""

    scored: int
    exact: int
    folded: int


def count(parts: Parts, cache: Path) -> dict[str, Repeats]:
    """Counts, for every evaluation slice, the scored rows that were trained on, in whichever part of a mixture.

    Args:
        parts: set up.
        cache: folder of cache entries; the texts are read once for a choice of rows.
    """
    asked = [(part, _train(part), part.train.rows.unique().numpy()) for _, part in parts if len(part.train)]
    scored = {
        f"{place}{split}": (part, split, examples.rows.unique().numpy())
        for place, part in parts
        for split in part.config.dataset.evaluation
        if (examples := part.slices.get(split)) is not None
    }
    names = [[name, *_identity(*rows)] for name, rows in scored.items()]
    identity = [fingerprint.of_code(paths.PACKAGE), [_identity(*rows) for rows in asked], names]
    entry = cache / "repeats" / f"{fingerprint.of_json(identity)[:24]}.json"
    stored = cached.read(entry, lambda file: json.loads(file.read_bytes()))
    if stored is not None:
        return {name: Repeats(**value) for name, value in stored.items()}
    by_split = _count(asked, scored)
    text = json.dumps({name: asdict(repeats) for name, repeats in by_split.items()})
    with files.spared("the count of rows trained on", []):
        cached.write(entry, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return by_split


#: Some rows of a split.
Rows = tuple[Divided, str, np.ndarray]


def _count(trained: Sequence[Rows], scored: dict[str, Rows]) -> dict[str, Repeats]:
    # The scored rows are the few: of the others only those are kept that are among them.
    rows = {name: list(_texts(*asked)) for name, asked in scored.items()}
    exact = {texts for row_texts in rows.values() for texts in row_texts}
    folded = {_fold(texts) for texts in exact}
    exact_seen, folded_seen = set(), set()
    for texts in (texts for asked in trained for texts in _texts(*asked)):
        if texts in exact:
            exact_seen.add(texts)
        if (fold := _fold(texts)) in folded:
            folded_seen.add(fold)
    return {
        name: Repeats(
            scored=len(row_texts),
            exact=sum(texts in exact_seen for texts in row_texts),
            folded=sum(_fold(texts) in folded_seen for texts in row_texts),
        )
        for name, row_texts in rows.items()
    }


def _texts(part: Divided, split: str, rows: np.ndarray) -> Iterator[Texts]:
    """Yields the texts that a model is shown of some rows, without the answers."""
    shown = part.reader.shown
    table = sources.read(part.source, split, shown)
    for start in range(0, len(rows), _CHUNK):
        chunk = table.take(rows[start : start + _CHUNK])
        values = zip(*(column(chunk, name) for name in shown), strict=True)
        yield from (tuple(map(_text, row)) for row in values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _fold(texts: Texts) -> Texts:
    return tuple(" ".join(text.casefold().split()) for text in texts)


def _train(part: Divided) -> str:
    return part.config.dataset.train


def _identity(part: Divided, split: str, rows: np.ndarray) -> list[Any]:
    """A JSON value that changes whenever the texts of some rows would."""
    source = part.source
    contents = [source.checksums.get(file) for file in source.files[split]]
    digest = hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()
    return [source.fingerprint, split, contents, source.renamed.get(split, {}), part.reader.shown, digest]
