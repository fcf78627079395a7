"""Records by what they say alike, without looking at much of it."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from peftbench.results.records import RunRecord


def groups(records: Iterable[RunRecord], said: Callable[[RunRecord], Iterable[object]]) -> list[list[RunRecord]]:
    """Lists of records of which the same things are said, by the identity of these: records that were read share what
    they say alike (`results.index`). Two lists may still say the same.

    Args:
        said: the parts of a record that decide; they belong to the record, so that they last as long.
    """
    found: defaultdict[tuple[int, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        found[tuple(map(id, said(record)))].append(record)
    return list(found.values())
