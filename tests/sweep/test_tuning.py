"""Searches, studies and what tuning keeps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.config import loading, paths
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.sweep import plan, search_space, tuning
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers.composed import composed

Run = Callable[..., tuple[int, str, str]]


def records(results: Path) -> list[RunRecord]:
    return [record for _, record in ResultStore(results).scan() if isinstance(record, RunRecord)]


SEARCHED = [
    name for name in paths.choices("method") if "search" in loading.read_yaml(paths.CONF / "method" / f"{name}.yaml")
]


def test_there_are_searches() -> None:
    assert len(SEARCHED) > 10


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_can_be_asked(name: str) -> None:
    """Every value of a search lies in the method's file's own shape, and the file's own values in the search."""
    config = composed([f"method={name}"])
    for key, allowed in search_space.of(config).items():
        if search_space.is_range(key):
            low, high = (float(end) for end in allowed)
            assert 0 < low < high, key
        else:
            assert len(set(map(str, allowed))) == len(allowed) > 1, key
    assert search_space.usual(config) is not None


@pytest.fixture
def optuna() -> None:
    pytest.importorskip("optuna", reason="the extra tune isn't installed")


@pytest.mark.usefixtures("optuna")
def test_a_study_asked_again_proposes_the_same_and_keeps_the_best(
    tiny, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def study() -> tuple[list[dict], dict | None]:
        composed = plan_cells(tiny("method=lora", "seed=0,1", "tune=6"), multirun=True)
        runs = plan.make([prepare(c) for c in composed.cells], composed.overrides)
        found, rest = tuning.studies(runs, [])
        assert rest == []
        assert len(found) == 1
        # A method whose score is best at rank 4 and the highest rate.
        monkeypatch.setattr(
            tuning, "selection_score", lambda cell: cell.config.method.lr - cell.config.method.adapter["r"] / 1000
        )
        for asked in tuning.rounds(found):
            assert all(Path(run.cell.config.results_dir) == results / "trials" for _, run in asked)
            assert all(run.cell.config.tune is None for _, run in asked)
        assert [run.cell.config.seed for run in found[0].finals()] == [0, 1]
        return found[0].tried, found[0].best()

    first, best = study()
    assert len(first) == 6
    assert first[0]["values"] == {"lr": 0.001, "adapter.r": 8}  # The file's own come first.
    assert best == max(first, key=lambda trial: trial["score"])
    assert study() == (first, best)


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize("made", [0, 2, 3])
def test_a_plan_counts_the_trials_and_the_runs_that_are_left(
    tiny, run_cli: Run, monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    """Trials are made in the order in which they were asked for, so that a stopped study has the first ones."""
    told: list[str] = []

    def recorded(run: plan.PlannedRun) -> bool:
        if "trial" not in run.group:  # Of the runs with the best values, which have another rate, the first seed's.
            return run.cell.config.seed == 0 and made == 3
        told.append(run.group.rpartition(" ")[2])
        return int(told[-1]) <= made

    monkeypatch.setattr(tuning, "recorded", recorded)
    monkeypatch.setattr(tuning, "selection_score", lambda cell: cell.config.method.lr)
    status, out, err = run_cli(*tiny("method=lora", "seed=0,1", "tune=3", "dry_run=true"))
    assert status == 0, err
    assert told == [str(number + 1) for number in range(min(made + 1, 3))]
    to_do, done = (1, 1) if made == 3 else (2, 0)
    assert f"Plan: {to_do} to do, {done} done; time unknown" in out
    assert (" first" in out) == (made < 3)
    assert made == 3 or f"up to {3 - made} trial" in out


@pytest.mark.usefixtures("optuna")
def test_a_study_of_which_a_seed_is_recorded_has_all_its_seeds(tiny) -> None:
    """Where the best trial has the file's own values, a final run has the key that it was composed with."""
    composed = plan_cells(tiny("method=lora,majority", "seed=0,1", "tune=3"), multirun=True)
    runs = plan.make([prepare(c) for c in composed.cells], composed.overrides)
    left = [run.cell.key for run in runs if run.cell.config.seed == 1]
    (study,), rest = tuning.studies(runs, [], left)
    assert [run.cell.config.seed for run in study.runs] == [0, 1]
    assert [run.cell.config.seed for run in rest] == [1]
    assert tuning.studies(runs, [], []) == ([], [])


@pytest.mark.usefixtures("optuna")
def test_trials_need_a_split_that_is_not_the_evaluation(tiny, run_cli: Run) -> None:
    status, _, err = run_cli(*tiny("tune=2", "recipe.selection=best_on_validation"))
    assert status == 2
    assert "carves nothing from train" in err


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_tuned_runs_say_what_was_tried_and_trials_are_no_rows(run_cli: Run, tiny, results: Path) -> None:
    line = tiny("method=lora,majority", "seed=0,1", "tune=2", "recipe.max_steps=3", "recipe.eval_steps=3")
    status, out, err = run_cli(*line)
    assert status == 0, (out, err)
    assert "4 completed (4 now, 0 before), 0 failed" in out
    tuned = [r for r in records(results) if r.config["method"]["name"] == "lora"]
    assert len(tuned) == 2
    for record in tuned:
        assert record.config["tune"] == 2
        assert record.tuning is not None
        assert len(record.tuning["tried"]) == record.tuning["trials"] == 2
        values = record.tuning["best"]["values"]
        assert record.config["method"]["lr"] == values["lr"]
        assert record.config["method"]["adapter"]["r"] == values["adapter.r"]
    trials = {r.key: r for r in records(results / "trials")}
    for trial in tuned[0].tuning["tried"]:
        assert trials[trial["key"]].metrics["selection"]["score"] == trial["score"]
    run_cli("report", f"results_dir={results}")
    board = (results / "leaderboard.md").read_text()
    assert "by 2 trials on the selection split" in board
    assert "tune=2" in board
    stamps = {r.key: r.environment["started_unix_s"] for r in trials.values()}
    status, out, _ = run_cli(*line)
    assert status == 0
    assert "Plan: 0 to do, 4 done\n" in out
    assert "4 completed (0 now, 4 before)" in out
    assert {r.key: r.environment["started_unix_s"] for r in records(results / "trials")} == stamps
    next(results.glob(f"records/**/{tuned[0].key}*")).unlink()
    status, out, _ = run_cli(*line, "dry_run=true")
    assert "Plan: 1 to do, 3 done;" in out
    assert " first" not in out


SPACE = "tune_space={recipe.epochs: [1, 2], recipe.weight_decay: [0.0, 0.1]}"


@pytest.mark.usefixtures("optuna")
def test_a_space_of_ones_own_is_searched_beside_the_methods(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = plan_cells(tiny("method=lora", "seed=0,1", "tune=8", SPACE), multirun=True)
    runs = plan.make([prepare(c) for c in composed.cells], composed.overrides)
    (study,), _ = tuning.studies(runs, [])
    monkeypatch.setattr(tuning, "selection_score", lambda cell: cell.config.recipe.epochs - cell.config.method.lr)
    seen = []
    for asked in tuning.rounds([study]):
        for _, run in asked:
            config = run.cell.config
            assert (config.tune, config.tune_space) == (None, None)
            seen.append((config.recipe.epochs, config.recipe.weight_decay, config.method.adapter["r"]))
    assert set(study.tried[0]["values"]) == {"lr", "adapter.r", "recipe.epochs", "recipe.weight_decay"}
    assert [(t["values"]["recipe.epochs"], t["values"]["recipe.weight_decay"]) for t in study.tried] == [
        trial[:2] for trial in seen
    ]
    assert len(set(seen)) > 3
    finals = study.finals()
    assert [run.cell.config.seed for run in finals] == [0, 1]
    assert {run.cell.config.recipe.epochs for run in finals} == {2}
    assert all(run.cell.config.tune_space for run in finals)


def test_a_method_without_a_search_is_tuned_where_it_trains(tiny) -> None:
    cells = plan_cells(tiny("method=full,majority", "tune=4", SPACE), multirun=True).cells
    assert {cell.method.name: (cell.tune, bool(cell.tune_space)) for cell in cells} == {
        "full": (4, True),
        "majority": (None, False),
    }


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tune_space={recipe.epochs: [1, 2]}"], "tune_space: goes with tune=N"),
        (["tune=2", "tune_space={recipe.epoks: [1, 2]}"], "recipe.epoks: no such key"),
        (["tune=2", "tune_space={recipe.epochs: [1, 0]}"], "recipe.epochs=0: allowed is a number at least 1"),
        (["tune=2", "tune_space={recipe.epochs: [1]}"], "allowed is a list of two or more different values"),
        (["tune=2", "tune_space={recipe.epochs: 3}"], "allowed is a list of two or more different values"),
        (["tune=2", "tune_space={method.lr: [1e-4, 1e-3]}"], "tune_space.method.lr: the method's own search has it"),
        (["tune=2", "tune_space={method.head_lr: [1e-3, 1e-4]}"], "allowed is its lowest and its highest value"),
        (["tune=2", "tune_space={seed: [1, 2]}"], "tune_space.seed: allowed are keys of recipe., "),
        (["tune=2", "tune_space={recipe.selection: [last, best_on_selection]}"], "tune_space.recipe.selection: "),
    ],
)
def test_what_no_trial_can_have_is_refused_before_the_first(tiny, run_cli: Run, words: list[str], says: str) -> None:
    status, out, err = run_cli(*tiny("method=lora", *words))
    assert status == 2, out
    assert says in err
    assert err.count("\n") == 1
