"""Made-up GLUE and SuperGLUE in exactly the hub's layout: column names, types, integer labels, and -1 for hidden ones.

Every text gives its label away, so that a model can fit it.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_WORDS = "it was a film about some people who did this and that in town".split()
#: One a label: what gives it away.
_SIGNS = ["awful", "superb", "middling"]

Column = tuple[pa.DataType, Callable[[random.Random, int, int], Any]]


def _text(sign: bool = False, at_least: int = 3) -> Column:
    def make(rng: random.Random, row: int, label: int) -> str:
        words = rng.sample(_WORDS, rng.randint(at_least, 8))
        return " ".join([*words, _SIGNS[label]] if sign else words)

    return pa.string(), make


def _const(value: str) -> Column:
    return pa.string(), lambda rng, row, label: value


def _label(kind: pa.DataType | None = None) -> Column:
    return kind or pa.int64(), lambda rng, row, label: label


def _idx() -> Column:
    return pa.int32(), lambda rng, row, label: row


def _whole(value: int) -> Column:
    return pa.int32(), lambda rng, row, label: value


def _struct(**fields: Callable[[int], int]) -> Column:
    kind = pa.struct([(name, pa.int32()) for name in fields])
    return kind, lambda rng, row, label: {name: of(row) for name, of in fields.items()}


def _pair(first: str, second: str) -> dict[str, Column]:
    return {first: _text(), second: _text(sign=True), "label": _label(), "idx": _idx()}


def _wic_sentence(rng: random.Random, row: int, label: int) -> str:
    return f"people {_SIGNS[label]} in town"


_ENTITIES = ["Ann Lee", "Bob", "Carla Diaz", "the Town"]

_RECORD: dict[str, Column] = {
    "passage": (pa.string(), lambda r, row, label: f"{', '.join(_ENTITIES)} met. @highlight {_ENTITIES[row % 4]} won"),
    "query": (pa.string(), lambda r, row, label: f"In town number {row} it was @placeholder who won"),
    "entities": (pa.list_(pa.string()), lambda r, row, label: _ENTITIES),
    "entity_spans": (
        pa.struct([("text", pa.list_(pa.string())), ("start", pa.list_(pa.int32())), ("end", pa.list_(pa.int32()))]),
        lambda r, row, label: {"text": _ENTITIES, "start": [0] * 4, "end": [3] * 4},
    ),
    "answers": (pa.list_(pa.string()), lambda r, row, label: [_ENTITIES[row % 4]]),
    "idx": _struct(passage=lambda row: row, query=lambda row: row),
}

#: (hub folder, config) -> columns.
SETS: dict[tuple[str, str], dict[str, Column]] = {
    ("glue", "cola"): {"sentence": _text(sign=True), "label": _label(), "idx": _idx()},
    ("glue", "sst2"): {"sentence": _text(sign=True), "label": _label(), "idx": _idx()},
    ("glue", "mrpc"): _pair("sentence1", "sentence2"),
    ("glue", "qqp"): _pair("question1", "question2"),
    ("glue", "stsb"): {**_pair("sentence1", "sentence2"), "label": _label(pa.float32())},
    ("glue", "mnli"): _pair("premise", "hypothesis"),
    ("glue", "ax"): {**_pair("premise", "hypothesis"), "label": (pa.int64(), lambda rng, row, label: -1)},
    ("glue", "qnli"): _pair("question", "sentence"),
    ("glue", "rte"): _pair("sentence1", "sentence2"),
    ("glue", "wnli"): _pair("sentence1", "sentence2"),
    ("super_glue", "boolq"): _pair("question", "passage"),
    ("super_glue", "cb"): _pair("premise", "hypothesis"),
    ("super_glue", "copa"): {
        "premise": _text(),
        "choice1": (pa.string(), lambda rng, row, label: f"this is {_SIGNS[1 - label]}"),
        "choice2": (pa.string(), lambda rng, row, label: f"that, at length, is {_SIGNS[label]}"),
        "question": (pa.string(), lambda rng, row, label: ("cause", "effect")[row // 2 % 2]),
        "idx": _idx(),
        "label": _label(),
    },
    ("super_glue", "multirc"): {
        "paragraph": _text(),
        "question": (pa.string(), lambda rng, row, label: f"which one is number {row // 4}?"),
        "answer": _text(sign=True),
        "idx": _struct(paragraph=lambda row: row // 12, question=lambda row: row // 4, answer=lambda row: row),
        "label": _label(),
    },
    ("super_glue", "record"): _RECORD,
    ("super_glue", "rte"): _pair("premise", "hypothesis"),
    ("super_glue", "wic"): {
        "word": _const("people"),
        "sentence1": (pa.string(), _wic_sentence),
        "sentence2": (pa.string(), lambda rng, row, label: "some people"),
        "start1": _whole(0),
        "start2": _whole(5),
        "end1": _whole(6),
        "end2": _whole(11),
        "idx": _idx(),
        "label": _label(),
    },
    ("super_glue", "wsc"): {
        "text": (pa.string(), lambda rng, row, label: f"The old man met Bob, for he was {_SIGNS[label]}."),
        "span1_index": _whole(0),
        "span2_index": _whole(6),
        "span1_text": _const("the old man"),
        "span2_text": _const("He"),
        "idx": _idx(),
        "label": _label(),
    },
    ("super_glue", "axb"): _pair("sentence1", "sentence2"),
    ("super_glue", "axg"): _pair("premise", "hypothesis"),
}

_THREE = ("mnli", "ax", "cb")


def write(root: Path, rows: dict[str, int], *, folder: str, config: str) -> None:
    """Some splits of a set, as Parquet files named as the hub names them."""
    columns = SETS[folder, config]
    for split, count in rows.items():
        rng = random.Random(f"{folder}/{config}/{split}")
        labels = [i % (3 if config in _THREE else 2) for i in range(count)]
        arrays = {
            name: pa.array([make(rng, row, label) for row, label in enumerate(labels)], kind)
            for name, (kind, make) in columns.items()
        }
        (root / folder / config).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(arrays), root / folder / config / f"{split}-00000-of-00001.parquet")


def write_all(root: Path) -> None:
    """Every set: 48 rows of train, 24 of each evaluation split; the diagnostic ones have a test split alone."""
    for folder, config in SETS:
        splits = ["validation_matched", "validation_mismatched"] if config == "mnli" else ["validation"]
        rows = {"test": 24} if config.startswith("ax") else {"train": 48, **dict.fromkeys(splits, 24)}
        write(root, rows, folder=folder, config=config)
