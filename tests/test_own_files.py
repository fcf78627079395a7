"""The user's own files: what their values mean, how they are kept, and what is said where they can't be read."""

import dataclasses
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from composed import composed

from peftbench import metrics
from peftbench.data import sources
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.examples import Example
from peftbench.data.readers import reader
from peftbench.errors import ConfigError
from peftbench.job import Cell, prepare

TEXTS = [f"a walk by the {('lake', 'wood', 'mill', 'pier')[i % 4]}, day {i}" for i in range(12)]
CLASSIFY = ["dataset.text=note", "dataset.label=mood"]


class Files:
    """Two files in a folder, and the runs that are made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def csv(self, rows: str | bytes, name: str = "a.csv") -> Path:
        (self.folder / name).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        return self.folder / name

    def jsonl(self, rows: list[Any], name: str = "a.jsonl") -> Path:
        return self.csv("".join(json.dumps(row) + "\n" for row in rows), name)

    def parquet(self, columns: dict[str, Any], name: str = "a.parquet") -> Path:
        pq.write_table(pa.table(columns), self.folder / name)
        return self.folder / name

    def cell(self, train: Path, *more: str, validation: Path | None = None) -> Cell:
        form = train.name.split(".")[1]
        files = [f"dataset.train_file={train}", f"dataset.validation_file={validation or train}"]
        places = [f"results_dir={self.folder / 'results'}"]
        return prepare(composed(["model=tiny_bert", f"dataset={form}", *files, *places, *more]))

    def refusal(self, train: Path, *more: str, validation: Path | None = None) -> str:
        with pytest.raises(ConfigError) as error:
            self.cell(train, *more, validation=validation)
        assert "\n" not in str(error.value)
        return str(error.value)


def examples(cell: Cell, split: str = "train") -> list[Example]:
    read = reader(cell.config.dataset)
    table = sources.read(cell.source, split, read.columns)
    return read.examples(table, np.arange(table.num_rows))


def labels(cell: Cell, split: str = "train") -> list[str]:
    names = cell.config.dataset.labels or []
    return [names[int(example.label)] for example in examples(cell, split)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _csv(moods: list[str], header: str = "note,mood", end: str = "\n") -> str:
    return end.join([header, *(f'"{TEXTS[i % 12]}",{mood}' for i, mood in enumerate(moods)), ""])


class TestKept:
    def test_swapped_halves_are_other_data(self, files: Files) -> None:
        one, two = files.csv(_csv(["up", "down"] * 2)), files.csv(_csv(["up", "down"] * 3), "b.csv")
        for title in ([], ["dataset.title=cross"]):
            there = files.cell(one, *CLASSIFY, *title, validation=two)
            back = files.cell(two, *CLASSIFY, *title, validation=one)
            assert there.key != back.key
            for cell, counts in ((there, (4, 6)), (back, (6, 4))):
                assert tuple(len(examples(cell, split)) for split in ("train", "validation")) == counts

    def test_two_label_columns_of_one_file(self, files: Files) -> None:
        file = files.csv(
            "note,rude,spam\n" + "".join(f"{t},{i % 2},{int(i % 4 == 0)}\n" for i, t in enumerate("abcdefgh"))
        )
        rude, spam = (files.cell(file, "dataset.text=note", f"dataset.label={name}") for name in ("rude", "spam"))
        assert labels(rude) == ["0", "1"] * 4
        assert labels(spam) == ["1", "0", "0", "0"] * 2
        turned = files.cell(file, "dataset.text=note", "dataset.label=spam", "dataset.labels=['1','0']")
        assert labels(turned) == labels(spam)
        assert len({rude.key, spam.key, turned.key}) == 3

    def test_what_decides_the_content_is_part_of_the_name(self, files: Files) -> None:
        file = files.csv("note,mood,other\na,up,x\nb,down,y\n,up,z\n")
        same = files.csv(file.read_bytes(), "renamed.csv")
        lines = [
            CLASSIFY,
            ["dataset.text=other", "dataset.label=mood"],
            ["dataset.text=[note,other]", "dataset.label=mood"],
        ]
        lines += [[*CLASSIFY, "dataset.labels=[up,down]"], [*CLASSIFY, "dataset.encoding=latin-1"]]
        prints = [files.cell(file, *line).source.fingerprint for line in lines]
        assert len(set(prints)) == len(lines)
        assert files.cell(same, *CLASSIFY).source.fingerprint == prints[0]

    def test_one_spelling_of_each_key(self, files: Files) -> None:
        file = files.csv("note,mood\na,up\nb,down\n")
        plain = files.cell(file, *CLASSIFY).key
        said = ["dataset.separator=comma", "dataset.encoding=UTF8", "dataset.drop_unlabelled=false"]
        assert files.cell(file, *CLASSIFY, *said).key == plain

    @pytest.mark.parametrize("harm", ["empty", "cut", "other labels", "deleted"])
    def test_what_does_not_hold_is_made_anew(self, files: Files, harm: str) -> None:
        file = files.csv(_csv(["up", "down"] * 4))
        cell = files.cell(file, *CLASSIFY)
        kept = Path(cell.source.files["train"][0])
        before, right = kept.read_bytes(), labels(cell)
        if harm == "deleted":
            kept.unlink()
        elif harm == "other labels":
            table = pq.read_table(kept)
            pq.write_table(table.set_column(1, "column_1", pa.array([1, 0] * 4)[::-1]), kept)
        else:
            kept.write_bytes(b"" if harm == "empty" else before[:-9])
        if harm != "deleted":
            with pytest.raises(ConfigError, match="isn't what it was"):
                sources.read(cell.source, "train", ["note"])
        again = files.cell(file, *CLASSIFY)
        assert Path(again.source.files["train"][0]).read_bytes() == before
        assert labels(again) == right

    def test_it_is_read_once(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        file = files.csv(_csv(["up", "down"]))
        files.cell(file, *CLASSIFY, "dataset.labels=[up,down]")
        monkeypatch.setattr("peftbench.data.formats.read", lambda *_, **__: pytest.fail("it was read again"))
        files.cell(file, *CLASSIFY, "dataset.labels=[up,down]", "seed=1")


class TestLabels:
    @pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize(
        ("names", "right"),
        [("['true','false']", [0, 1]), ("['false','true']", [1, 0]), ("[True,False]", [0, 1]), ("[ham,spam]", [1, 0])],
    )
    def test_true_and_false_by_name_else_in_order(self, files: Files, form: str, names: str, right: list[int]) -> None:
        truth = [True, False] * 3
        file = {
            "csv": lambda: files.csv(_csv([str(value).lower() for value in truth])),
            "jsonl": lambda: files.jsonl([{"note": t, "mood": m} for t, m in zip(TEXTS, truth, strict=False)]),
            "parquet": lambda: files.parquet({"note": TEXTS[:6], "mood": truth}),
        }[form]()
        cell = files.cell(file, *CLASSIFY, f"dataset.labels={names}")
        assert [example.label for example in examples(cell)] == right * 3

    def test_the_hubs_booleans_too(self, data_root: Path, results: Path, tmp_path: Path) -> None:
        folder = tmp_path / "hub" / "glue" / "sst2"
        folder.mkdir(parents=True)
        for split in ("train", "validation"):
            columns = {"sentence": TEXTS[:4], "label": [True, False, False, True]}
            pq.write_table(pa.table(columns), folder / f"{split}.parquet")
        line = ["model=tiny_bert", "dataset=sst2", f"data_root={tmp_path / 'hub'}", f"results_dir={results}"]
        assert [e.label for e in examples(prepare(composed(line)))] == [1, 0, 0, 1]
        turned = prepare(composed([*line, "dataset.labels=['True','False']"]))
        assert [e.label for e in examples(turned)] == [0, 1, 1, 0]

    @pytest.mark.parametrize("blank", ["", '""', " ", "NaN", "nan"])
    def test_rows_without_a_label_are_named_or_dropped(self, files: Files, blank: str) -> None:
        file = files.csv(_csv(["up", blank, "down", "up", blank]))
        said = files.refusal(file, *CLASSIFY)
        assert "2 of 5 rows without a label (rows 1, 4); dataset.drop_unlabelled=true" in said
        assert "rows 1, 4" in files.refusal(file, *CLASSIFY, "dataset.labels=[down,up]")
        cell = files.cell(file, *CLASSIFY, "dataset.drop_unlabelled=true")
        assert cell.config.dataset.labels == ["down", "up"]
        assert labels(cell) == ["up", "down", "up"]
        assert [example.fields["note"] for example in examples(cell)] == [TEXTS[i] for i in (0, 2, 3)]

    def test_nan_is_no_class(self, files: Files) -> None:
        nan = float("nan")
        numbers = files.parquet({"note": TEXTS[:4], "mood": [1.0, 0.0, nan, nan]})
        assert "rows 2, 3" in files.refusal(numbers, *CLASSIFY)
        lines = files.jsonl(
            [{"note": "a", "mood": nan}, {"note": "b"}, {"note": "c", "mood": None}, {"note": "d", "mood": 1}]
        )
        assert "3 of 4 rows without a label (rows 0, 1, 2)" in files.refusal(lines, *CLASSIFY)
        number = files.cell(numbers, *CLASSIFY, "dataset.drop_unlabelled=true", "dataset.task=regression")
        assert [example.label for example in examples(number)] == [1.0, 0.0]
        assert "every row" in files.refusal(files.csv(_csv([""] * 3)), *CLASSIFY, "dataset.drop_unlabelled=true")

    def test_a_right_answer_is_a_label_too(self, files: Files) -> None:
        file = files.csv('q,a\n"1 and 1",2\n"2 and 2",\n')
        ask = [
            "dataset.task=generation",
            "dataset.text=q",
            "+dataset.answers=a",
            "+dataset.generation.max_new_tokens=4",
        ]
        assert "a.csv has 1 of 2 rows without a right answer (row 1)" in files.refusal(file, *ask)

    @pytest.mark.parametrize("names", [["010", "10"], ["NA", "null"], ["True", "true"], ["None", "#N/A"], ["1e5", "x"]])
    def test_a_label_is_a_text(self, files: Files, names: list[str]) -> None:
        """In every file: what one file's other rows look like changes nothing."""
        one, two = files.csv(_csv(names * 2)), files.csv(_csv(names[:1] * 3), "b.csv")
        cell = files.cell(one, *CLASSIFY, validation=two)
        assert sorted(cell.config.dataset.labels or []) == sorted(names)
        assert labels(cell) == names * 2
        assert labels(cell, "validation") == names[:1] * 3

    def test_labels_that_look_the_same(self, files: Files) -> None:
        assert "' up' and 'up', which differ by blanks" in files.refusal(
            files.csv(_csv(["up", " up", "down"])), *CLASSIFY
        )
        file = files.csv(_csv(["1", "1.0", "2"]))
        assert "'1' and '1.0'" in files.refusal(file, *CLASSIFY)
        assert labels(files.cell(file, *CLASSIFY, "dataset.labels=['1','1.0','2']")) == ["1", "1.0", "2"]

    def test_json_and_parquet_know_one_from_one_point_nought(self, files: Files) -> None:
        lines = files.jsonl([{"note": "a", "mood": 1}, {"note": "b", "mood": 1.0}, {"note": "c", "mood": 0}])
        assert labels(files.cell(lines, *CLASSIFY)) == ["1", "1", "0"]
        floats = files.parquet({"note": ["a", "b"], "mood": [2.0, 10.0]})
        assert files.cell(floats, *CLASSIFY).config.dataset.labels == ["2", "10"]

    def test_the_training_rows_decide_between_names_and_indices(self, files: Files) -> None:
        one, two = files.csv(_csv(["0", "1"] * 2)), files.csv(_csv(["up", "down"]), "b.csv")
        named = ["dataset.labels=[down,up]"]
        assert "row 0 has the label 'up'" in files.refusal(one, *CLASSIFY, *named, validation=two)
        assert labels(files.cell(one, *CLASSIFY, *named)) == ["down", "up"] * 2
        assert "row 0 has the label 0; allowed" in files.refusal(one, *CLASSIFY, "dataset.labels=['1','2']")

    def test_an_unknown_label_in_the_other_file(self, files: Files) -> None:
        other = files.csv(_csv(["up", "sideways"]), "b.csv")
        said = files.refusal(files.csv(_csv(["up", "down"])), *CLASSIFY, validation=other)
        assert said == "dataset.labels: b.csv row 1 has the label 'sideways'; allowed are 0 (down), 1 (up)"

    def test_thousands_of_labels(self, files: Files) -> None:
        moods = [f"m{i}" for i in range(3000)]
        file = files.csv(_csv(moods))
        assert "3000 different values; allowed are 2 to 100" in files.refusal(file, *CLASSIFY)
        named = f"dataset.labels=[{','.join(moods)}]"
        assert labels(files.cell(file, *CLASSIFY, named)) == moods
        said = files.refusal(file, *CLASSIFY, named, validation=files.csv(_csv(["no"]), "b.csv"))
        assert "and 2980 more" in said
        assert len(said) < 500

    def test_numbers_only_in_regression(self, files: Files) -> None:
        file = files.csv(_csv(["1e-3", "-2", ".5"]))
        cell = files.cell(file, *CLASSIFY, "dataset.task=regression")
        assert [example.label for example in examples(cell)] == [0.001, -2.0, 0.5]
        for odd in ("1,5", "true", "inf", "1_000", "1e999", "０"):
            wrong = files.csv(_csv(["1", f'"{odd}"']))
            assert "allowed are numbers" in files.refusal(wrong, *CLASSIFY, "dataset.task=regression")

    def test_choices_by_number_or_letter(self, files: Files) -> None:
        ask = ["dataset.task=multiple_choice", "dataset.text=q", "+dataset.choices=[a,b]", "dataset.label=y"]
        file = files.csv("q,a,b,y\n1,2,3,0\nx,NA,010,B\n")
        first, second = examples(files.cell(file, *ask))
        assert (first.choices, first.label, second.choices, second.label) == (["2", "3"], 0, ["NA", "010"], 1)
        listed = [*ask[:2], "+dataset.choices=o", ask[3]]
        lines = files.jsonl([{"q": "x", "o": ["a", 2, True], "y": "2"}, {"q": "x", "o": ["a"], "y": 0}])
        assert [(e.choices, e.label) for e in examples(files.cell(lines, *listed))] == [
            (["a", "2", "true"], 2),
            (["a"], 0),
        ]


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
    def _encoded(cell: Cell) -> TaskDataModule:
        from peftbench import backbones, tasks

        tokenizer = backbones.load_tokenizer(cell.config.model, cell.checkpoint)
        module = TaskDataModule(
            cell.config,
            tasks.build(cell.config),
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
        packed = gzip.compress(_csv(["up", "down"]).encode())
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
        one, two = files.csv(_csv(["1"])), files.csv(_csv(["1", "0"]), "b.csv")
        ask = [*CLASSIFY, "dataset.labels=['0','1']"]
        assert "recipe.selection=last" in files.refusal(one, *ask, validation=two)
        assert len(examples(files.cell(one, *ask, "recipe.selection=last", validation=two))) == 1


class TestShortForms:
    def test_a_text_for_a_list_of_one(self) -> None:
        data = composed(["model=tiny_bert", "dataset=csv", "dataset.text=ticket", "dataset.verbaliser=x"]).dataset
        assert (data.text, data.verbaliser, data.labels) == (["ticket"], ["x"], None)
        assert composed(["model=tiny_bert", "dataset=csv", "dataset.text=2019"]).dataset.text == ["2019"]

    @pytest.mark.parametrize("short", ["f1_macro", "[f1_macro]", "{f1_macro: max}"])
    def test_a_metric_by_its_name(self, files: Files, short: str) -> None:
        file = files.csv(_csv(["up", "down"]))
        cell = files.cell(file, *CLASSIFY, f"dataset.metrics={short}")
        assert cell.config.dataset.metrics == {"f1_macro": "max"}
        assert cell.key == files.cell(file, *CLASSIFY, "dataset.metrics={f1_macro: max}").key

    def test_its_direction_is_the_metrics_own(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrics.functions.f1, "direction", "min", raising=False)
        file = files.csv(_csv(["up", "down"]))
        assert files.cell(file, *CLASSIFY, "dataset.metrics=f1").config.dataset.metrics == {"f1": "min"}
        assert "all are max or all are min" in files.refusal(file, *CLASSIFY, "dataset.metrics=[f1,accuracy]")
        assert "f2 is no metric" in files.refusal(file, *CLASSIFY, "dataset.metrics=f2")

    def test_in_a_part_of_a_mixture(self, data_root: Path, results: Path, tmp_path: Path) -> None:
        from peftbench import compose, paths

        folder = tmp_path / "mine" / "dataset"
        folder.mkdir(parents=True)
        text = (paths.CONF / "dataset" / "sst2.yaml").read_text()
        assert "metrics: {accuracy: max}" in text
        (folder / "mine.yaml").write_text(text.replace("metrics: {accuracy: max}", "metrics: f1"))
        line = ["model=tiny_bert", "dataset=mixture", "dataset.parts=[mine,mrpc]", f"results_dir={results}"]
        plan = compose.plan([*line, f"data_root={data_root}"], multirun=False, config_dirs=[folder.parent])
        data = prepare(plan.cells[0]).config.dataset
        assert data.parts is not None
        assert data.parts[0].metrics == {"f1": "max"}
        assert set(data.metrics.values()) == {"max"}


def test_three_forms_of_one_file_are_the_same_examples(files: Files) -> None:
    moods = ["up", "down"] * 6
    made: list[Callable[[], Path]] = [
        lambda: files.csv(_csv(moods)),
        lambda: files.jsonl([{"note": t, "mood": m} for t, m in zip(TEXTS, moods, strict=True)]),
        lambda: files.parquet({"note": TEXTS, "mood": moods}),
    ]
    read = [examples(files.cell(make(), *CLASSIFY)) for make in made]
    assert read[0] == read[1] == read[2]
