"""The user's own files, drawn at random: each is read right or refused in one line, and no label is invented.

`PEFTBENCH_FUZZ=300` draws so many files instead of the few of the default tier.
"""

import csv
import io
import json
import os
import re
import tempfile
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from composed import composed
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import strategies as st

from peftbench.data import own, sources
from peftbench.data.readers import reader
from peftbench.errors import ConfigError

EXAMPLES = int(os.environ.get("PEFTBENCH_FUZZ", "40"))

NAMES = st.sampled_from(
    ["text", "a.b", "note.text", "wow!", "k:v", "x[0]", "2019", "010", "my text", "é", "/a/b", "~", "{brace}", "a\nb"]
) | st.text("ab.!:[]{}/~ 0'\"", min_size=1, max_size=6)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "NA", "null", "None", "010", "1e5", "2019-05-01", "true", 'a "b", c', "two\nlines", "\r\n", "\u2028", "\x00x"]
)
LATIN = st.text(st.characters(codec="latin-1", exclude_characters="\x00\r"), max_size=8)
LABELS = ["", " ", "NA", "None", "null", "nan", "NaN", "true", "False", "010", "10", "1", "1.0", "0", "-1", "up", " up"]
LABELS += ["Up", "é", "1e5", "０", "#N/A", "a,b", "{x}", "'"]


@dataclass(frozen=True)
class Drawn:
    """A file in its two halves: rows of (text, label as it is written or typed), and how it is written."""

    form: str
    columns: tuple[str, str]
    train: list[tuple[str, Any]]
    validation: list[tuple[str, Any]]
    separator: str | None = None
    encoding: str | None = None
    said_encoding: str | None = None
    end: str = "\n"
    text_type: Any = None
    #: The first text is so many times as long.
    times: int = 1

    @property
    def halves(self) -> list[list[tuple[str, Any]]]:
        first, *others = self.train or [("", "")]
        return [[(first[0] * self.times, first[1]), *others] if self.train else [], self.validation]

    def label(self, value: Any) -> str | None:
        """A label as the file says it; None: it says none."""
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return None
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float | Decimal) and value == int(value):
            return str(int(value))
        text = str(value)
        return None if text.strip().casefold() in ("", "nan") else text


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    form = draw(st.sampled_from(["csv", "jsonl", "parquet"]))
    encoding = draw(st.sampled_from([None, None, "latin-1", "utf-16", "cp1252", "utf-8-sig"]))
    encoding = None if form == "parquet" else encoding
    columns = draw(st.tuples(NAMES, NAMES | st.just("label")))
    texts = LATIN if encoding in ("latin-1", "cp1252") else TEXTS
    kinds: dict[str, list[Any]] = {"text": LABELS}
    if form != "csv":
        kinds |= {"int": [0, 1, 2, 10, -1], "float": [0.0, 1.0, 0.5, float("nan")], "bool": [True, False]}
    if form == "jsonl":
        kinds["mixed"] = [1, 1.0, "1", True, None, "up", [1], {"a": 1}]
    if form == "parquet":
        kinds["decimal"] = [Decimal("1.50"), Decimal("2.00"), Decimal("0.25")]
    kind = draw(st.sampled_from(sorted(kinds)))
    odd = draw(st.integers(0, 3)) == 0  # Else labels that may all be meant.
    fair = [v for v in kinds[kind] if odd or str(v).strip() not in ("", "nan", "NaN", "1.0", "-1", "None")]
    fair = [v for v in fair if odd or v == str(v).strip() or not isinstance(v, str | list | dict)]
    pool = draw(st.lists(st.sampled_from(fair), min_size=1 if odd else 2, max_size=4, unique_by=repr))
    rows = st.lists(st.tuples(texts, st.sampled_from(pool)), min_size=0 if odd else 1, max_size=9)
    train, validation = draw(rows), draw(rows)
    train = train if odd else [*zip(draw(st.lists(texts, min_size=4, max_size=4)), pool, strict=False), *train]
    return Drawn(
        form,
        columns,
        train,
        validation,
        separator=draw(st.sampled_from([None, None, ";", "\t", "|"])) if form == "csv" else None,
        encoding=encoding,
        said_encoding=draw(st.sampled_from([*[encoding] * 9, None, "utf-16", "no-such"])),
        end=draw(st.sampled_from(["\n", "\r\n"])),
        times=draw(st.sampled_from([1] * 9 + [500_000])),
        text_type=draw(st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])),
    )


def _content(case: Drawn, rows: list[tuple[str, Any]]) -> bytes:
    if case.form == "jsonl":
        lines = [json.dumps(dict(zip(case.columns, row, strict=True)), ensure_ascii=False) + case.end for row in rows]
        return "".join(lines).encode(case.encoding or "utf-8")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=case.separator or ",", lineterminator=case.end)
    writer.writerows([case.columns, *rows])
    return stream.getvalue().encode(case.encoding or "utf-8")


def _write(case: Drawn, file: Path, rows: list[tuple[str, Any]]) -> None:
    if case.form != "parquet":
        file.write_bytes(_content(case, rows))
        return
    texts, labels = [row[0] for row in rows], [row[1] for row in rows]
    arrays = [pa.array(texts, pa.string()).cast(case.text_type), pa.array(labels, None if rows else pa.string())]
    pq.write_table(pa.table(arrays, names=list(case.columns)), file)


def _is_plain(case: Drawn) -> bool:
    """Whether nothing is wrong with it, so that it must be read."""
    labels = [[case.label(value) for _, value in rows] for rows in (case.train, case.validation)]
    bare = {label.strip().removesuffix(".0") for label in labels[0] if label}
    return (
        case.columns[0] != case.columns[1]
        and not set(case.columns[0]) & set("{}")
        and (case.encoding == case.said_encoding or (case.encoding, case.said_encoding) == ("utf-8-sig", None))
        and bool(case.validation)
        and not any(isinstance(value, list | dict) for _, value in [*case.train, *case.validation])
        and None not in [*labels[0], *labels[1]]
        and len(bare) == len(set(labels[0])) > 1
        and set(labels[1]) <= set(labels[0])
    )


BASE = ["model=tiny_bert", "dataset=csv", "dataset.text=[text]", "dataset.label=label"]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="PEFTBENCH_FUZZ" not in os.environ,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(drawn())
def test_a_file_is_read_right_or_refused_in_one_line(case: Drawn) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{split}.{case.form}") for split in ("one", "two")]
        try:
            for file, rows in zip(files, case.halves, strict=True):
                _write(case, file, rows)
        except UnicodeEncodeError:
            reject()  # No such file can be.
        config = replace(
            composed(BASE).dataset,
            format=case.form,
            train_file=str(files[0]),
            validation_file=str(files[1]),
            text=[case.columns[0]],
            label=case.columns[1],
            separator=case.separator,
            encoding=case.said_encoding,
        )
        refused: str | None = None
        try:
            config = own.complete(config)
            source = sources.locate(config, data_root=None, cache=Path(folder))
        except ConfigError as error:
            event("refused")
            refused = str(error)
        if refused is not None:
            assert "\n" not in refused
            assert re.search(r"dataset\.\w+|can't be read as", refused), refused
            assert not _is_plain(case), refused
            return
        event("read")
        names, read = config.labels or [], reader(config)
        for split, rows in zip(("train", "validation"), case.halves, strict=True):
            table = sources.read(source, split, read.columns)
            examples = read.examples(table, np.arange(table.num_rows))
            assert [example.fields[case.columns[0]] for example in examples] == [text for text, _ in rows]
            labels = [case.label(value) for _, value in rows]
            if set(labels) == {"-1"} and "-1" not in names:
                continue
            assert [names[int(example.label)] for example in examples] == labels


def test_the_fuzz_meets_both() -> None:
    """Files that must be read are drawn, and files that must not be."""
    plain: list[bool] = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn())
    def look(case: Drawn) -> None:
        plain.append(_is_plain(case))

    look()
    assert sum(plain) >= 50
    assert len(plain) - sum(plain) >= 50
