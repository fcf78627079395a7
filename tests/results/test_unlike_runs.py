"""Which runs share a row, a column or a mean of the leaderboard, and which never do."""

import csv
import dataclasses
import io

from peftbench.results.report import against, render_csv
from peftbench.results.report.load import Results
from tests.helpers.boards import board, made


def test_unlike_runs_are_never_averaged() -> None:
    result = board(
        made(0.5, "method.lr=0.1"),
        made(0.7, "method.lr=0.2"),
        made(0.9, "method.lr=0.2", "recipe.epochs=9"),
        made(0.1, "method=full"),
    )
    assert [(row.method, row.variant) for row in result.rows] == [
        ("lora", "lr=0.2, recipe.epochs=9"),
        ("lora", "lr=0.2, recipe.epochs=3"),
        ("lora", "lr=0.1, recipe.epochs=3"),
        ("full", "recipe.epochs=3"),
    ]
    assert all(cell.n == 1 for row in result.rows for cell in row.cells.values())


def test_a_value_written_otherwise_is_the_same_value() -> None:
    one = made(0.5, "method.lr=3e-3", "seed=0", changed=["method.lr=3e-3"])
    other = made(0.7, "method.lr=0.003", "seed=1", changed=["method.lr=0.003"])
    assert [(row.variant, [cell.n for cell in row.cells.values()]) for row in board(one, other).rows] == [
        ("lr=0.003", [2])
    ]
    later = dataclasses.replace(one, changed=other.changed)
    assert len(against.compare(Results([one], []), Results([later], [])).changes) == 1


def test_what_only_describes_a_run_makes_no_row_or_column() -> None:
    before = made(0.5, "method=galore", "seed=0")
    after = made(0.7, "method=galore", "seed=1")
    assert after.config["method"]["sharding"] is False
    words = {"method": ("sharding", "summary", "search"), "model": ("gguf",), "dataset": ("title", "rows")}
    older = {group: {k: v for k, v in before.config[group].items() if k not in names} for group, names in words.items()}
    result = board(dataclasses.replace(before, config={**before.config, **older}), after)
    assert [(row.variant, [cell.n for cell in row.cells.values()]) for row in result.rows] == [("", [2])]


def test_other_data_under_the_same_name_is_another_column() -> None:
    other = {"data_fingerprint": "other", "model_fingerprint": "m"}
    result = board(made(0.5, "seed=0"), made(0.7, "seed=1", environment=other))
    assert result.columns == ["demo (data=d)", "demo (data=other)"]
    assert [(cell.mean, cell.n) for cell in result.rows[0].cells.values()] == [(0.5, 1), (0.7, 1)]


def test_data_whose_fingerprints_begin_alike_are_other_data() -> None:
    runs = [
        made(0.25, "seed=0", environment={"data_fingerprint": "official"}),
        made(0.75, "seed=1", environment={"data_fingerprint": "official-too"}),
    ]
    assert [[(c.mean, c.n) for c in row.cells.values()] for row in board(*runs).rows] == [[(0.25, 1), (0.75, 1)]]


def test_machines_of_one_name_that_differ_are_two_rows_beside_a_third() -> None:
    result = board(
        made(0.25, "seed=0", "hardware.threads=1"),
        made(0.75, "seed=1", "hardware.threads=2"),
        made(0.5, "hardware=cpu_bf16"),
    )
    assert sorted(row.variant for row in result.rows) == [
        "hardware=cpu, hardware.threads=1",
        "hardware=cpu, hardware.threads=2",
        "hardware=cpu_bf16",
    ]


def test_names_that_are_written_alike_are_told_apart() -> None:
    """By a stranger's record: `demo (data=d)` is what other data called demo are shown as."""
    one, other, named = made(0.25, "seed=0"), made(0.5, "seed=1"), made(0.75, "seed=2")
    other = dataclasses.replace(other, environment={**other.environment, "data_fingerprint": "e"})
    dataset = {**named.config["dataset"], "name": "demo (data=d)"}
    named = dataclasses.replace(named, config={**named.config, "dataset": dataset})
    assert board(one, other, named).columns == ["demo (data=d)", "demo (data=d)[2]", "demo (data=e)"]


def test_other_protocols_are_never_averaged() -> None:
    result = board(made(0.5, "seed=0"), made(0.7, "seed=1", protocol=0))
    assert sorted(row.variant for row in result.rows) == ["protocol=0", "protocol=1"]


def test_one_key_for_two_runs_mixes_nothing() -> None:
    """Of anything that is grouped: rows, columns, details, what was forgotten, prompts."""
    prompt = {"soft_prompt": [[{"token": "a", "similarity": 0.5}]]}
    asked = {"n": 5, "cut": 0, "parts": {}, "data_fingerprint": "q", "before": 0.5, "difference_se": None}
    records = [
        made(score, *overrides, key="k", learnt=prompt,
             forgetting={"mmlu": {**asked, "after": score, "difference": score - 0.5}})
        for score, overrides in ((0.25, ("method=prompt",)), (0.75, ("method=full", "dataset=sst2")))
    ]  # fmt: skip
    result = board(*records)
    assert [(row.method, [(c.mean, c.n) for c in row.cells.values() if c]) for row in result.rows] == [
        ("full", [(0.75, 1)]),
        ("prompt", [(0.25, 1)]),
    ]
    assert {(of.row[0], of.after, of.runs) for of in result.forgetting} == {("full", 0.75, 1), ("prompt", 0.25, 1)}
    assert [title for title, _ in result.soft_prompts] == ["full · tiny_bert · sst2", "prompt · tiny_bert · demo"]


def test_other_questions_have_columns_of_their_own() -> None:
    asked = {"n": 5, "cut": 0, "parts": {}, "before": 0.5, "difference_se": None}
    runs = [
        made(
            0.5,
            f"seed={seed}",
            forgetting={"mmlu": {**asked, "data_fingerprint": str(seed), "after": after, "difference": after}},
        )
        for seed, after in enumerate((0.25, 0.75))
    ]
    (row,) = csv.DictReader(io.StringIO(render_csv.render(board(*runs))))
    assert sorted(float(v) for name, v in row.items() if name.endswith("_after")) == [0.25, 0.75]
