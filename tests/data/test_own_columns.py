"""Columns and forms of the user's own files: names, nesting, separators, encodings, and what is no such file."""

import dataclasses
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.data.datamodule import TaskDataModule
from peftbench.errors import ConfigError
from peftbench.run.prepared import PreparedRun, prepare
from tests.helpers.composed import composed
from tests.helpers.own_files import CLASSIFY, TEXTS, Files, csv_text, examples, labels


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TestColumns:
    @pytest.mark.parametrize(
        "name", ["note.text", "wow!", "k:v", "x[0]", "2019", "two words", "a!r", "é", "'q'", "a=b", "$x", "../y"]
    )
    def test_any_name_is_a_name(self, files: Files, name: str) -> None:
        """Also where a nested column has a field of that path."""
        file = files.jsonl([{name: t, "note": {"text": "wrong"}, "mood": i % 2} for i, t in enumerate(TEXTS)])
        config = dataclasses.replace(
            composed(["model=tiny_bert", "dataset=jsonl", "dataset.label=mood"]),
            results_dir=str(files.folder / "results"),
        )
        data = dataclasses.replace(config.dataset, text=[name], train_file=str(file), validation_file=str(file))
        cell = prepare(dataclasses.replace(config, dataset=data))
        assert [example.fields[name] for example in examples(cell)] == TEXTS
        assert self._encoded(cell)

    @staticmethod
    def _encoded(cell: PreparedRun) -> TaskDataModule:
        from peftbench.models import backbones
        from peftbench.tasks.table import build as build_task

        tokenizer = backbones.load_tokenizer(cell.config.model, cell.checkpoint)
        module = TaskDataModule(
            cell.config,
            build_task(cell.config),
            tokenizer,
            source=cell.source,
            tokenizer_fingerprint=cell.checkpoint.fingerprint,
            cache=Path(cell.config.results_dir, "cache"),
        )
        module.setup()
        first = module.train.rows[0]
        words = tokenizer.decode(module.train.collate([0])["input_ids"][0], skip_special_tokens=True)
        assert words == tokenizer.decode(tokenizer(TEXTS[int(first)])["input_ids"], skip_special_tokens=True)
        return module

    def test_nested_fields_are_pointed_at(self, files: Files) -> None:
        rows = [{"note": {"text": t, "a/b": i % 2}, "n": 1} for i, t in enumerate(TEXTS)]
        ask = ["dataset.text=/note/text", "dataset.label='/note/a~1b'"]
        for file in (files.jsonl(rows), files.parquet({"note": [row["note"] for row in rows]})):
            cell = files.cell(file, *ask)
            assert [example.fields["/note/text"] for example in examples(cell)] == TEXTS
            assert labels(cell) == ["0", "1"] * 6
            said = files.refusal(file, "dataset.text=note.text", ask[1])
            assert "has no such column; it has /note/text, /note/a~1b" in said
            assert "not text" in files.refusal(file, "dataset.text=note", ask[1])
        renamed = files.cell(files.jsonl(rows), "dataset.text=review", "+dataset.columns={review: /note/text}", ask[1])
        assert examples(renamed)[0].fields == {"review": TEXTS[0]}

    def test_a_name_twice(self, files: Files) -> None:
        file = files.csv("note,mood,note,x,x\na,up,b,1,2\nc,down,d,3,4\n")
        assert "dataset.text=note: a.csv has several columns of that name" in files.refusal(file, *CLASSIFY)
        assert labels(files.cell(files.csv(file.read_text().replace("mood,note", "mood,more")), *CLASSIFY)) == [
            "up",
            "down",
        ]
        table = pa.table([pa.array(["a", "b"])] * 3, names=["note", "mood", "mood"])
        pq.write_table(table, files.folder / "twice.parquet")
        assert "dataset.label=mood" in files.refusal(files.folder / "twice.parquet", *CLASSIFY)
        line = files.csv('{"note": "a", "note": "b", "mood": 1}\n{"mood": 0}\n', "twice.jsonl")
        assert "'note' twice" in files.refusal(line, *CLASSIFY)

    def test_braces_need_another_name(self, files: Files) -> None:
        file = files.csv("{note},mood\na,up\nb,down\n")
        assert "has a brace" in files.refusal(file, "dataset.text='{note}'", "dataset.label=mood")
        cell = files.cell(file, *CLASSIFY, "+dataset.columns={note: '{note}'}")
        assert [example.fields["note"] for example in examples(cell)] == ["a", "b"]

    def test_a_column_that_is_two_things(self, files: Files) -> None:
        file = files.csv("note,mood\na,up\nb,down\n")
        assert "dataset.label=note: is dataset.text too" in files.refusal(
            file, "dataset.text=note", "dataset.label=note"
        )


class TestReaders:
    def test_types_that_hold_texts(self, files: Files) -> None:
        texts = pa.array(TEXTS[:4])
        for kind in (pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string_view(), pa.binary()):
            cell = files.cell(files.parquet({"note": texts.cast(kind), "mood": texts.cast(kind)}), *CLASSIFY)
            assert labels(cell) == [example.fields["note"] for example in examples(cell)] == TEXTS[:4]
        cases: list[tuple[pa.Array, list[str]]] = [
            (pa.array([Decimal("1.50"), Decimal("2.00")]), ["1.50", "2"]),
            (pa.array([0, 2**64 - 1], pa.uint64()), ["0", "18446744073709551615"]),
            (pa.array([0, 1], pa.date32()), ["1970-01-01", "1970-01-02"]),
            (pa.array([0.1, 1.0], pa.float32()), ["0.1", "1"]),
        ]
        for column, right in cases:
            assert labels(files.cell(files.parquet({"note": ["a", "b"], "mood": column}), *CLASSIFY)) == right

    def test_what_is_not_asked_for_is_not_parsed(self, files: Files) -> None:
        rows = [
            {"note": "a", "mood": 1, "x": 1},
            {"note": "b", "mood": 0, "x": {"y": [1, "z"]}},
            {"note": 3, "mood": 1},
        ]
        cell = files.cell(files.jsonl(rows), *CLASSIFY)
        assert [example.fields["note"] for example in examples(cell)] == ["a", "b", "3"]
        assert labels(files.cell(files.csv(b"note,mood,x\na,up,1\nb,down,\xff\n"), *CLASSIFY)) == ["up", "down"]

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_a_text_of_five_megabytes(self, files: Files, form: str) -> None:
        long = "and so on " * 500_000
        rows = [{"note": text, "mood": i % 2} for i, text in enumerate(["a", long, "b", "c"])]
        lines = "".join(f'"{row["note"]}",{row["mood"]}\n' for row in rows)
        file = files.jsonl(rows) if form == "jsonl" else files.csv("note,mood\n" + lines)
        assert examples(files.cell(file, *CLASSIFY))[1].fields["note"] == long

    @pytest.mark.parametrize(
        ("separator", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "pipe"), ("\t", "'\\t'"), (";", "';'")]
    )
    def test_separators(self, files: Files, separator: str, word: str) -> None:
        file = files.csv(f"note{separator}mood\na, b{separator}up\nc, d{separator}down\n".replace(", ", " "))
        if word.isalpha():
            assert f"dataset.separator={word}?" in files.refusal(file, *CLASSIFY)
        cell = files.cell(file, *CLASSIFY, f"dataset.separator={word}")
        assert [example.fields["note"] for example in examples(cell)] == ["a b", "c d"]
        assert cell.config.dataset.separator == separator
        assert "allowed is a character" in files.refusal(file, *CLASSIFY, "dataset.separator=xy")

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le"])
    def test_encodings(self, files: Files, form: str, encoding: str) -> None:
        rows = [{"note": "café", "mood": "ça"}, {"note": "thé", "mood": "là"}]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        table = "note,mood\n" + "".join(f"{row['note']},{row['mood']}\n" for row in rows)
        file = files.csv((lines if form == "jsonl" else table).encode(encoding), f"a.{form}")
        if encoding != "utf-16-le":  # Which is UTF-8 with zeros between.
            assert "dataset.encoding" in files.refusal(file, *CLASSIFY)
        assert labels(files.cell(file, *CLASSIFY, f"dataset.encoding={encoding}")) == ["ça", "là"]
        for wrong in ("utf-99", "base64", "utf-32"):
            assert "\n" not in files.refusal(file, *CLASSIFY, f"dataset.encoding={wrong}")

    def test_marks_line_ends_and_line_breaks(self, files: Files) -> None:
        cell = files.cell(
            files.csv(b"\xef\xbb\xbf" + b'note,mood\r\n"two\r\nlines",up\r\n\r\n"a ""b""",down\r\n'), *CLASSIFY
        )
        assert [example.fields["note"] for example in examples(cell)] == ["two\r\nlines", 'a "b"']
        line = b'\xef\xbb\xbf{"note": "a\xe2\x80\xa8b", "mood": 1}\r\n\r\n{"note": "c", "mood": 0}'
        assert examples(files.cell(files.csv(line, "a.jsonl"), *CLASSIFY))[0].fields["note"] == "a\u2028b"

    def test_compressed(self, files: Files) -> None:
        packed = gzip.compress(csv_text(["up", "down"]).encode())
        assert labels(files.cell(files.csv(packed, "a.csv.gz"), *CLASSIFY)) == ["up", "down"]
        assert "ends in .gz" in files.refusal(files.csv(packed), *CLASSIFY)
        assert "can't be read as csv" in files.refusal(files.csv(packed[:-12], "b.csv.gz"), *CLASSIFY)

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("a.jsonl", b'[{"note": "a"}]', "one object a line"),
            ("a.jsonl", b'{\n "note": "a"}', "line 1 is no JSON object"),
            ("a.jsonl", b'{"note": "a"}\n7\n', "line 2 is no JSON object"),
            ("a.jsonl", b'{"note": ' + b"[" * 100_000, "nested too deeply"),
            ("a.jsonl", b'{"note": "\\ud800", "mood": 1}\n{"note": "a", "mood": 0}', "surrogate"),
            ("a.jsonl", b"", "it is empty"),
            ("a.csv", b"", "it is empty"),
            ("a.csv", b"\n\n", "it is empty"),
            ("a.csv", b"note,mood\n", "has no rows"),
            ("a.csv", b"note,mood", "has no rows"),
            ("a.csv", b"note,mood\na,up\nb\n", "Expected 2 columns, got 1"),
            ("a.csv", b"PK\x03\x04xlsx", "spreadsheet"),
            ("a.csv", b"PAR1", "dataset=parquet"),
            ("a.parquet", b"note,mood\n", "can't be read as parquet"),
            ("a.parquet", b"", "can't be read as parquet"),
        ],
    )
    def test_what_is_no_such_file_is_one_line(self, files: Files, name: str, content: bytes, said: str) -> None:
        assert said in files.refusal(files.csv(content, name), *CLASSIFY)

    def test_paths_that_are_none(self, files: Files) -> None:
        for path, said in (
            ("y" * 300 + ".csv", "too long"),
            ("~nosuchuser/x.csv", "home directory"),
            (str(files.folder), "is a folder"),
            ("/dev/zero", "is no plain file"),
        ):
            with pytest.raises(ConfigError) as error:
                prepare(composed(["model=tiny_bert", "dataset=csv", f"dataset.train_file='{path}'", *CLASSIFY]))
            assert said in str(error.value)

    def test_keys_of_own_files_with_other_data(self, results: Path) -> None:
        with pytest.raises(ConfigError, match="dataset.separator: goes with dataset=csv"):
            prepare(composed(["model=tiny_bert", "dataset=demo", "+dataset.separator=tab", f"results_dir={results}"]))

    def test_one_row_to_train_on(self, files: Files) -> None:
        one, two = files.csv(csv_text(["1"])), files.csv(csv_text(["1", "0"]), "b.csv")
        ask = [*CLASSIFY, "dataset.labels=['0','1']"]
        assert "recipe.selection=last" in files.refusal(one, *ask, validation=two)
        assert len(examples(files.cell(one, *ask, "recipe.selection=last", validation=two))) == 1
