"""Thousands of runs in one command: what is done once a data set, and what the parent keeps of a run."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from omegaconf import DictConfig

from peftbench.config import identity
from peftbench.data import demo, located, own_files
from peftbench.results import announcements
from peftbench.results.announcements import ExpectedRecord
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.sweep import job
from peftbench.system import process, process_group
from tests.helpers.composed import composed
from tests.helpers.runs import write_split


def _record(cell: PreparedRun) -> RunRecord:
    figures: dict[str, Any] = {"params": {"trainable": 1}, "efficiency": {"run_time_s": 1.0}}
    config = identity.description(cell.config)
    figures["environment"] = {
        "data_fingerprint": cell.source.fingerprint,
        "model_fingerprint": cell.checkpoint.fingerprint,
    }
    return RunRecord(key=cell.key, status="completed", score=0.5, config=config, learnt={"long": "x" * 1000}, **figures)


@pytest.fixture
def _untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are recorded at once."""

    def call(target: str, *given: Any, on_result: Callable = lambda _: None, **_: Any) -> process_group.Outcome:
        if target.endswith("verify"):
            return process_group.Outcome(result=[None] * len(given[0]))
        result = _record(given[0]).to_dict()
        on_result(result)
        return process_group.Outcome(result=result)

    monkeypatch.setattr(process, "call", call)
    monkeypatch.setattr(process, "warm_up", lambda: None)


LINE = ["model=tiny_bert", "dataset=demo", "method=lora", "recipe.max_steps=2", "-m"]


@pytest.mark.usefixtures("_untrained")
class TestParent:
    def test_data_are_made_once_a_data_set(self, run_cli, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[int] = []
        generate = demo.generate

        def counting() -> dict[str, pa.Table]:
            made.append(1)
            return generate()

        monkeypatch.setattr(demo, "generate", counting)
        line = [*LINE, "seed=range(8)", f"results_dir={results}"]
        located._PREPARED.clear()
        assert run_cli(*line)[0] == 0
        assert len(made) == 1  # For the plan of all runs, and for each when it is made.
        located._PREPARED.clear()
        assert "8 completed (0 now, 8 before)" in run_cli(*line)[1]
        assert len(made) == 2

    def test_no_runs_configuration_stays_in_memory(self, run_cli, results: Path, monkeypatch) -> None:
        alive: list[int] = []
        keep = job.keep

        def counting(*given: Any) -> RunRecord:
            gc.collect()
            alive.append(sum(type(thing) is DictConfig for thing in gc.get_objects()))
            return keep(*given)

        monkeypatch.setattr(job, "keep", counting)
        assert run_cli(*LINE, "seed=range(8)", f"results_dir={results}")[0] == 0
        assert len(alive) == 8
        assert alive[-1] <= alive[2] + 20  # One run's are more than a hundred.


def test_of_a_record_a_watcher_keeps_what_it_shows(cell: Callable[..., PreparedRun], results: Path) -> None:
    found = cell()
    store = ResultStore(results)
    store.put(found.config, _record(found))
    planned = ExpectedRecord("r", str(store.record_file(found.config, found.key).relative_to(results)), "name")
    record = announcements.ended(results, planned, 0)
    assert record is not None
    assert (record.score, record.efficiency, record.params) == (0.5, {"run_time_s": 1.0}, {"trainable": 1})
    assert record.config == {"dataset": {"metrics": {"accuracy": "max"}}}
    assert not record.learnt


class TestChangedData:
    """What is remembered of a data set holds as long as nothing changes."""

    def test_a_file_that_changes(self, cell: Callable[..., PreparedRun], tmp_path: Path) -> None:
        def put(label: int) -> None:
            for split in ("train", "validation"):
                write_split(tmp_path / "glue" / "sst2", split, {"sentence": ["a", "b"], "label": [0, label]})

        put(1)
        first = cell(f"data_root={tmp_path}")
        assert cell(f"data_root={tmp_path}").source is first.source
        put(0)
        assert cell(f"data_root={tmp_path}").key != first.key

    def test_a_file_that_comes(self, cell: Callable[..., PreparedRun], tmp_path: Path) -> None:
        rows = {"sentence": ["a", "b"], "label": [0, 1]}
        for split in ("train", "validation"):
            file = write_split(tmp_path / "glue" / "sst2", split, rows)
        first = cell(f"data_root={tmp_path}")
        file.with_name("validation-00001-of-00002.parquet").write_bytes(file.read_bytes())
        assert len(cell(f"data_root={tmp_path}").source.files["validation"]) == 2
        assert len(first.source.files["validation"]) == 1

    def test_ones_own_file_is_read_once_until_it_changes(self, tmp_path: Path, results: Path, monkeypatch) -> None:
        read: list[Path] = []
        really = own_files._read
        monkeypatch.setattr(
            own_files, "_read", lambda config, file, columns: read.append(file) or really(config, file, columns)
        )
        for name in ("train", "dev"):
            (tmp_path / f"{name}.csv").write_text("review,stars\nfine,good\nugly,bad\n")
        files = [
            f"dataset.{key}_file={tmp_path}/{name}.csv" for key, name in (("train", "train"), ("validation", "dev"))
        ]
        given = ["model=tiny_bert", "dataset=csv", *files, "dataset.text=[review]", "dataset.label=stars"]
        keys = {prepare(composed([*given, f"seed={seed}", f"results_dir={results}"])).key for seed in range(4)}
        assert len(keys) == 4
        once = len(read)
        assert once <= 3  # Train for its labels, then both.
        (tmp_path / "dev.csv").write_text("review,stars\nfine,bad\nugly,bad\n")
        prepare(composed([*given, f"results_dir={results}"]))
        assert len(read) > once

    def test_a_cache_that_was_emptied(self, cell: Callable[..., PreparedRun], results: Path) -> None:
        first = cell("dataset=demo")
        for file in (results / "cache" / "data").rglob("*.parquet"):
            file.unlink()
        assert cell("dataset=demo").source == first.source
        assert list((results / "cache" / "data").rglob("*.parquet"))


def test_what_a_killed_process_left_is_found_without_listing_a_folder_for_each_run(
    cell: Callable[..., PreparedRun], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    store, cells = ResultStore(results), [cell(f"seed={seed}") for seed in range(5)]
    for found in cells:
        store.put(found.config, _record(found))
    folder = store.record_file(cells[0].config, cells[0].key).parent
    left = folder / f".{cells[3].key}.1.tmp"
    left.write_text("half")
    listed: list[object] = []
    really = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or really(path))
    for found in cells:
        store.tidy(found.config, found.key)
    assert not left.exists()
    assert listed.count(folder) <= 2
