"""Every data set of conf/dataset, and the questions of conf/forgetting, laid out as the hub has them, with a few rows
of our own making."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tests.helpers import hub_sets
from tests.helpers.composed import written
from tests.helpers.hub_server import Hub

_SPLITS = {"train": 24, "validation": 6, "test": 8}
_TEXT = 'He said: "{row}, and\nthat is, in town, all". NA'


def serve_all(hub: Hub, root: Path) -> None:
    """Give a hub all that conf/ names."""
    for folder, owner in (("glue", "nyu-mll"), ("super_glue", "aps")):
        commit = _named(f"{owner}/{folder}", "revision") or _named(f"{owner}/{folder}", "commit")
        hub.repository(f"datasets/{owner}/{folder}").add("main", root / folder, commit)
    hub_sets.write_all(root)
    _parquet_sets(hub, root)
    _csv_sets(hub, root)
    _questions(hub, root)


def _named(path: str, key: str) -> str | None:
    """What the files of conf/dataset say of a repository."""
    return next((file[key] for file in written("dataset").values() if file.get("path") == path and file.get(key)), None)


def _parquet_sets(hub: Hub, root: Path) -> None:
    for split, count in _SPLITS.items():
        news = {
            "article": _texts(count, split),
            "highlights": _texts(count, "short"),
            "id": [f"{row:040x}" for row in range(count)],
        }
        _write(root / "cnn" / "3.0.0" / f"{split}-00000-of-00001.parquet", news)
        slots = [f"name[The {row // 2}], food[Thai]" for row in range(count)]
        dishes = {"meaning_representation": slots, "human_reference": _texts(count, "short")}
        _write(root / "e2e" / "default" / split / "0000.parquet", dishes)
        half = count // 2
        for part, rows in enumerate((half, count - half)):  # The conversion cuts large splits into parts.
            articles = {
                "document": _texts(rows, f"{split} {part}"),
                "summary": _texts(rows, "short"),
                "id": ["7"] * rows,
            }
            _write(root / "xsum" / "default" / split / f"{part:04}.parquet", articles)
    for split, count in {"train": 24, "dev": 6, "test": 12}.items():
        _write(root / "web_nlg" / "webnlg_challenge_2017" / split / "0000.parquet", _triples(split, count))
        _write(root / "web_nlg" / "release_v1" / split / "0000.parquet", _triples(split, 3))
    hub.repository("datasets/abisee/cnn_dailymail").add("main", root / "cnn")
    for name, folder in (
        ("tuetschek/e2e_nlg", "e2e"),
        ("EdinburghNLP/xsum", "xsum"),
        ("webnlg-challenge/web_nlg", "web_nlg"),
    ):
        script = root / "scripts" / folder
        script.mkdir(parents=True)
        (script / f"{folder}.py").write_text("raise SystemExit('nobody runs this')\n")
        hub.repository(f"datasets/{name}").add("main", script)
        hub.repository(f"datasets/{name}").add("refs/convert/parquet", root / folder)


def _triples(split: str, count: int) -> dict[str, Any]:
    """WebNLG's rows; of its test split the last third has no texts, as most have none on the hub."""
    facts = [[[f"Town_{row} | leader | Ann_{row}", f"Town_{row} | country | Land"]] for row in range(count)]
    texts = [
        [] if split == "test" and 3 * row >= 2 * count else [f"Ann leads {row}.", "In Land."] for row in range(count)
    ]
    return {
        "eid": [f"Id{row}" for row in range(count)],
        "modified_triple_sets": [{"mtriple_set": sets} for sets in facts],
        "lex": [{"comment": ["good"] * len(lex), "text": lex} for lex in texts],
        "test_category": ["testdata_with_lex" if lex else "testdata_no_lex" for lex in texts],
    }


def _csv_sets(hub: Hub, root: Path) -> None:
    for name in ("samsum", "dialogsum"):
        for split, count in _SPLITS.items():
            said = [*_texts(count - 3, split), "NA", "010", ""]
            rows = {
                "id": [f"{split}_{row}" for row in range(count)],
                "dialogue": said,
                "summary": [*_texts(count - 1, "s"), "True"],
            }
            (root / name).mkdir(exist_ok=True)
            pyarrow.csv.write_csv(pa.table(rows), root / name / f"{split}.csv")
        hub.repository(f"datasets/knkarthick/{name}").add("main", root / name)


def _questions(hub: Hub, root: Path) -> None:
    subjects = ["marketing", "management"]
    for split, count in {"test": 6, "dev": 5, "validation": 2}.items():
        rows = [subject for subject in subjects for _ in range(count)]
        asked: dict[str, list[Any]] = {
            "question": [f"Which is number {row}?" for row in range(len(rows))],
            "subject": rows,
            "choices": [["a", "b", "c", "d"]] * len(rows),
            "answer": [row % 4 for row in range(len(rows))],
        }
        _write(root / "mmlu" / "all" / f"{split}-00000-of-00001.parquet", asked)
    hub.repository("datasets/cais/mmlu").add("main", root / "mmlu")
    for part in ("navigate", "word_sorting"):
        asked = {"input": [f"{part} {row}" for row in range(5)], "target": ["Yes"] * 5}
        _write(root / "bbh" / part / "test-00000-of-00001.parquet", asked)
    hub.repository("datasets/SaylorTwift/bbh").add("main", root / "bbh")


def _texts(count: int, word: str) -> list[str]:
    return [_TEXT.replace("{row}", f"{word} {row}") for row in range(count)]


def _write(file: Path, columns: dict[str, list[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
