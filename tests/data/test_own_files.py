"""The user's own files: what their values mean, how they are kept, and how little has to be said about them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.data import sources
from peftbench.errors import ConfigError
from peftbench.run.prepared import prepare
from peftbench.tasks.metrics.labels import f1
from tests.helpers.composed import composed
from tests.helpers.own_files import CLASSIFY, TEXTS, Files, csv_text, examples, labels


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TestKept:
    def test_swapped_halves_are_other_data(self, files: Files) -> None:
        one, two = files.csv(csv_text(["up", "down"] * 2)), files.csv(csv_text(["up", "down"] * 3), "b.csv")
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
        file = files.csv(csv_text(["up", "down"] * 4))
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
            with pytest.raises(ConfigError, match="was changed after"):
                sources.read(cell.source, "train", ["note"])
        again = files.cell(file, *CLASSIFY)
        assert Path(again.source.files["train"][0]).read_bytes() == before
        assert labels(again) == right

    def test_it_is_read_once(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        file = files.csv(csv_text(["up", "down"]))
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
            "csv": lambda: files.csv(csv_text([str(value).lower() for value in truth])),
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
        with pytest.raises(ConfigError, match=r"row 1 has the label False; allowed are 0 \(true\), 1 \(fake\)"):
            prepare(composed([*line, "dataset.labels=['true','fake']"]))

    @pytest.mark.parametrize("blank", ["", '""', " ", "NaN", "nan"])
    def test_rows_without_a_label_are_named_or_dropped(self, files: Files, blank: str) -> None:
        file = files.csv(csv_text(["up", blank, "down", "up", blank]))
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
        assert "every row" in files.refusal(files.csv(csv_text([""] * 3)), *CLASSIFY, "dataset.drop_unlabelled=true")

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
        one, two = files.csv(csv_text(names * 2)), files.csv(csv_text(names[:1] * 3), "b.csv")
        cell = files.cell(one, *CLASSIFY, validation=two)
        assert sorted(cell.config.dataset.labels or []) == sorted(names)
        assert labels(cell) == names * 2
        assert labels(cell, "validation") == names[:1] * 3

    def test_labels_that_look_the_same(self, files: Files) -> None:
        assert "' up' and 'up', which differ by blanks" in files.refusal(
            files.csv(csv_text(["up", " up", "down"])), *CLASSIFY
        )
        file = files.csv(csv_text(["1", "1.0", "2"]))
        assert "'1' and '1.0'" in files.refusal(file, *CLASSIFY)
        assert labels(files.cell(file, *CLASSIFY, "dataset.labels=['1','1.0','2']")) == ["1", "1.0", "2"]

    def test_json_and_parquet_know_one_from_one_point_nought(self, files: Files) -> None:
        lines = files.jsonl([{"note": "a", "mood": 1}, {"note": "b", "mood": 1.0}, {"note": "c", "mood": 0}])
        assert labels(files.cell(lines, *CLASSIFY)) == ["1", "1", "0"]
        floats = files.parquet({"note": ["a", "b"], "mood": [2.0, 10.0]})
        assert files.cell(floats, *CLASSIFY).config.dataset.labels == ["2", "10"]

    def test_the_training_rows_decide_between_names_and_indices(self, files: Files) -> None:
        one, two = files.csv(csv_text(["0", "1"] * 2)), files.csv(csv_text(["up", "down"]), "b.csv")
        named = ["dataset.labels=[down,up]"]
        assert "row 0 has the label 'up'" in files.refusal(one, *CLASSIFY, *named, validation=two)
        assert labels(files.cell(one, *CLASSIFY, *named)) == ["down", "up"] * 2
        assert "row 0 has the label 0; allowed" in files.refusal(one, *CLASSIFY, "dataset.labels=['1','2']")

    def test_an_unknown_label_in_the_other_file(self, files: Files) -> None:
        other = files.csv(csv_text(["up", "sideways"]), "b.csv")
        said = files.refusal(files.csv(csv_text(["up", "down"])), *CLASSIFY, validation=other)
        assert said == "dataset.labels: b.csv row 1 has the label 'sideways'; allowed are 0 (down), 1 (up)"

    def test_thousands_of_labels(self, files: Files) -> None:
        moods = [f"m{i}" for i in range(3000)]
        file = files.csv(csv_text(moods))
        assert "3000 different values; allowed are 2 to 100" in files.refusal(file, *CLASSIFY)
        named = f"dataset.labels=[{','.join(moods)}]"
        assert labels(files.cell(file, *CLASSIFY, named)) == moods
        said = files.refusal(file, *CLASSIFY, named, validation=files.csv(csv_text(["no"]), "b.csv"))
        assert "and 2980 more" in said
        assert len(said) < 500

    def test_numbers_only_in_regression(self, files: Files) -> None:
        file = files.csv(csv_text(["1e-3", "-2", ".5"]))
        cell = files.cell(file, *CLASSIFY, "dataset.task=regression")
        assert [example.label for example in examples(cell)] == [0.001, -2.0, 0.5]
        for odd in ("1,5", "true", "inf", "1_000", "1e999", "０"):
            wrong = files.csv(csv_text(["1", f'"{odd}"']))
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


class TestShortForms:
    def test_a_text_for_a_list_of_one(self) -> None:
        data = composed(["model=tiny_bert", "dataset=csv", "dataset.text=ticket", "dataset.verbaliser=x"]).dataset
        assert (data.text, data.verbaliser, data.labels) == (["ticket"], ["x"], None)
        assert composed(["model=tiny_bert", "dataset=csv", "dataset.text=2019"]).dataset.text == ["2019"]

    @pytest.mark.parametrize("short", ["f1_macro", "[f1_macro]", "{f1_macro: max}"])
    def test_a_metric_by_its_name(self, files: Files, short: str) -> None:
        file = files.csv(csv_text(["up", "down"]))
        cell = files.cell(file, *CLASSIFY, f"dataset.metrics={short}")
        assert cell.config.dataset.metrics == {"f1_macro": "max"}
        assert cell.key == files.cell(file, *CLASSIFY, "dataset.metrics={f1_macro: max}").key

    def test_its_direction_is_the_metrics_own(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(f1, "direction", "min", raising=False)
        file = files.csv(csv_text(["up", "down"]))
        assert files.cell(file, *CLASSIFY, "dataset.metrics=f1").config.dataset.metrics == {"f1": "min"}
        assert "all are max or all are min" in files.refusal(file, *CLASSIFY, "dataset.metrics=[f1,accuracy]")
        assert "f2 is no metric" in files.refusal(file, *CLASSIFY, "dataset.metrics=f2")

    def test_in_a_part_of_a_mixture(self, data_root: Path, results: Path, tmp_path: Path) -> None:
        from peftbench.config import paths
        from peftbench.sweep.cells import plan as plan_cells

        folder = tmp_path / "mine" / "dataset"
        folder.mkdir(parents=True)
        text = (paths.CONF / "dataset" / "sst2.yaml").read_text()
        assert "metrics: {accuracy: max}" in text
        (folder / "mine.yaml").write_text(text.replace("metrics: {accuracy: max}", "metrics: f1"))
        line = ["model=tiny_bert", "dataset=mixture", "dataset.parts=[mine,mrpc]", f"results_dir={results}"]
        plan = plan_cells([*line, f"data_root={data_root}"], multirun=False, config_dirs=[folder.parent])
        data = prepare(plan.cells[0]).config.dataset
        assert data.parts is not None
        assert data.parts[0].metrics == {"f1": "max"}
        assert set(data.metrics.values()) == {"max"}


def test_three_forms_of_one_file_are_the_same_examples(files: Files) -> None:
    moods = ["up", "down"] * 6
    made: list[Callable[[], Path]] = [
        lambda: files.csv(csv_text(moods)),
        lambda: files.jsonl([{"note": t, "mood": m} for t, m in zip(TEXTS, moods, strict=True)]),
        lambda: files.parquet({"note": TEXTS, "mood": moods}),
    ]
    read = [examples(files.cell(make(), *CLASSIFY)) for make in made]
    assert read[0] == read[1] == read[2]
