"""What a table says beside its numbers: marks, warnings, footnotes, and figures of busy machines."""

import csv
import io

import pyarrow.parquet as pq

from peftbench.results.records import RunRecord
from peftbench.results.report import export_parquet, render_csv, render_markdown, score_tables
from peftbench.sweep.advice import MethodRuns
from tests.helpers.boards import board, made

SPEED = {"peak_memory_bytes": 5_000_000, "train_samples_per_s": 20.0, "train_time_s": 10.0}


def timed(seed: int, cores: float, **more: float) -> RunRecord:
    """A run that had a share of its cores."""
    return made(0.5 + seed / 100, f"seed={seed}", efficiency={**SPEED, "train_cores_fraction": cores, **more})


def test_every_form_leaves_out_what_a_busy_machine_slowed() -> None:
    result = board(timed(0, 1.0), timed(1, 0.3, train_time_s=90.0, train_samples_per_s=2.0), timed(2, 1.0))
    (row,) = result.rows
    assert (row.figures["efficiency.train_time_s"], row.figures["efficiency.train_samples_per_s"]) == (10.0, 20.0)
    assert row.busy == {}
    assert "| lora   |     10.0 |      20.0 |" in render_markdown.render(result)
    (line,) = csv.DictReader(io.StringIO(render_csv.render(result)))
    assert (line["efficiency.train_time_s"], line["busy"]) == ("10.0", "")


def test_every_form_marks_what_only_a_busy_machine_measured() -> None:
    result = board(*(timed(seed, 0.3) for seed in range(3)))
    assert " 10.0* |     20.0* |" in render_markdown.render(result)
    wide = score_tables.wide(result)
    assert " 20.0* |" in wide
    assert "* slowed by a busy machine" in score_tables.legend(result, wide)
    (line,) = csv.DictReader(io.StringIO(render_csv.render(result)))
    assert line["busy"] == "efficiency.train_samples_per_s efficiency.train_time_s"
    table = pq.read_table(io.BytesIO(export_parquet.export(result))).to_pylist()
    assert {one["figure"] for one in table if one["busy"]} == {
        "efficiency.train_samples_per_s",
        "efficiency.train_time_s",
    }


def test_no_advice_rests_on_a_busy_machine() -> None:
    busy, quiet = timed(0, 0.3, train_time_s=90.0), timed(1, 1.0)
    assert MethodRuns("lora", (), {}, [busy, quiet]).figure("efficiency", "train_time_s") == 10.0
    assert MethodRuns("lora", (), {}, [busy]).figure("efficiency", "train_time_s") is None
    assert MethodRuns("lora", (), {}, [busy]).figure("efficiency", "peak_memory_bytes") == 5_000_000


def warned(seed: int, *words: str, text: str = "the step that scored best is the last") -> RunRecord:
    said = {"kind": "still_improving", "text": f"lora on demo (tiny_bert, seed {seed}): {text}"}
    return made(0.5 + seed / 5, f"seed={seed}", *words, changed=list(words), warnings=[said])


def test_a_warning_has_its_mark_wherever_the_score_stands() -> None:
    result = board(warned(0), warned(1), made(0.9, "method=full", "seed=0"), made(0.8, "method=full", "seed=1"))
    text = render_markdown.render(result)
    assert "| =!  | lora" in text
    assert "| =   | full" in text
    assert "=! (n=2)" in score_tables.wide(result)
    told = score_tables.legend(result, text)
    assert "= can't be told from the best; ! has a warning" in told
    assert "- lora on demo (tiny_bert, seed 0): the step that scored best is the last" in told


def test_a_warning_is_said_once_for_the_seeds_of_a_row_and_names_the_row() -> None:
    result = board(*(warned(seed, "method.lr=0.1") for seed in range(3)), warned(0, "method.lr=0.2"))
    notes = [note for note in result.footnotes if "scored best" in note]
    assert notes == [
        "lora (lr=0.1) on demo (tiny_bert, seed 0): the step that scored best is the last (3 of its 3 runs have such a "
        "warning)",
        "lora (lr=0.2) on demo (tiny_bert, seed 0): the step that scored best is the last",
    ]


def test_warnings_of_a_kind_that_say_different_things_are_all_said() -> None:
    def run(seed: int) -> RunRecord:
        texts = [
            f"lora on mrpc (tiny_bert, seed {seed}): the {m} of 8{seed} isn't above 81" for m in ("accuracy", "f1")
        ]
        said = [{"kind": "not_above_majority", "text": text} for text in texts]
        rows = {"kind": "rows_in_train", "text": "mrpc: 4 of 408 scored rows of validation are trained on"}
        return made(0.5, "dataset=mrpc", f"seed={seed}", warnings=[*said, rows])

    assert not any("have such" in note for note in board(run(0)).footnotes)
    notes = board(run(0), run(1), run(2)).footnotes
    assert (
        "lora on mrpc (tiny_bert, seed 0): the f1 of 80 isn't above 81 (3 of its 3 runs have such a warning)" in notes
    )
    assert sum("the accuracy of" in note for note in notes) == 1
    assert "mrpc: 4 of 408 scored rows of validation are trained on" in notes


def test_a_score_without_an_interval_has_its_mark_too() -> None:
    record = warned(0)
    record.metrics = {}
    assert "50.0 ! (n=1)" in score_tables.wide(board(record))


def test_a_footnote_of_some_runs_says_of_which() -> None:
    result = board(
        made(0.5, "seed=0", footnotes=["demo: a subset", "lora: inference speed wasn't measured (interrupted)"]),
        made(0.6, "seed=1", footnotes=["demo: a subset"]),
    )
    assert result.footnotes == [
        "demo: a subset",
        "lora: inference speed wasn't measured (interrupted) (1 of 2 runs of lora on demo)",
    ]


def test_a_mark_without_a_meaning_is_not_explained() -> None:
    assert score_tables.legend(board(made(0.5)), "") == ""


def test_a_size_is_one_that_a_run_had() -> None:
    small, large = {"trainable": 100, "total": 1000}, {"trainable": 300, "total": 1200}
    (row,) = board(
        made(0.5, "seed=0", params=small, efficiency={"adapter_bytes": 400}),
        made(0.6, "seed=1", params=large, efficiency={"adapter_bytes": 1200}),
    ).rows
    names = ("params.trainable", "params.total", "efficiency.adapter_bytes")
    assert [row.figures[name] for name in names] == [300, 1200, 1200]


def test_memory_that_is_mostly_holes_has_a_footnote() -> None:
    def used(peak: float, seed: int) -> RunRecord:
        parts = {"weights_frozen": 100e6, "activations": 220e6}
        return made(0.5, f"seed={seed}", efficiency={"peak_memory_bytes": peak, "memory_parts_bytes": parts})

    assert board(used(1.3e9, 0)).footnotes == []
    number = made(0.5, efficiency={"peak_memory_bytes": 2.7e9, "memory_parts_bytes": 5.0})
    assert board(number).footnotes == []
    on_gpu = used(2.7e9, 0)
    on_gpu.environment["gpu"] = ["a GPU"]
    assert board(on_gpu).footnotes == []
    (note,) = board(used(1.3e9, 0), used(2.7e9, 1)).footnotes
    assert note.startswith("lora on demo: tensors took 320 of its 2,700 MB of peak memory;")
