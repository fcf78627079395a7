"""The contract of published records: a dotted path that a record holds still names what it named, and a record's key
is the one that its run would have today.

A path (`method.target`, `adapter._target_`, `dataset.generator`) is part of a run's key. To move or rename what it
names would make another run of every recorded one, so neither may happen.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import loading
from peftbench.results import key, records
from peftbench.results.records import RunRecord

PUBLISHED = sorted((Path(__file__).parents[2] / "results" / "published").glob("*/records/**/*.json"))

#: Keys of a configuration that hold a dotted path.
PATHS = ("target", "_target_", "generator")


def _records() -> list[RunRecord]:
    return [records.from_dict(json.loads(file.read_text())) for file in PUBLISHED]


def paths(value: Any) -> set[str]:
    """The dotted paths within a configuration."""
    if isinstance(value, list):
        return {path for part in value for path in paths(part)}
    if not isinstance(value, dict):
        return set()
    named = {part for name, part in value.items() if name in PATHS and isinstance(part, str)}
    return named | {path for part in value.values() for path in paths(part)}


def names_something(path: str) -> bool:
    """Whether a path's module can be imported and holds what the path names."""
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def test_every_path_of_a_published_record_still_names_something() -> None:
    named = {path for record in _records() for path in paths(record.config)}
    assert len(named) > 50
    assert {path.partition(".")[0] for path in named} >= {"peft", "peftbench"}
    assert sorted(path for path in named if not names_something(path)) == []


@pytest.mark.parametrize("path", ["peftbench.methods.hub.Hubb", "peftbench.nowhere.Hub"])
def test_a_path_that_names_nothing_is_found(path: str) -> None:
    assert paths({"method": {"target": path, "adapter": [{"_target_": path}]}, "dataset": {"target": None}}) == {path}
    assert not names_something(path)


def _composed_anew(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of a record's run by its configuration as it is read today, and by its fingerprints and protocol."""
    environment, forgetting = record.environment, record.forgetting or {}
    asked = environment.get("questions") or {name: each["data_fingerprint"] for name, each in forgetting.items()}
    inputs = {**(environment.get("inputs") or {}), **{f"forgetting.{name}": each for name, each in asked.items()}}
    with monkeypatch.context() as patch:
        patch.setattr(key, "protocol", lambda _: record.protocol)
        config = loading.from_description(record.config)
        data, model = environment["data_fingerprint"], environment["model_fingerprint"]
        return key.run_key(config, data=data, model=model, inputs=inputs)


def test_the_keys_of_published_records_are_composed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    completed = [record for record in _records() if record.status != "not_applicable"]
    assert len(completed) > 200
    moved = {record.key for record in completed if _composed_anew(record, monkeypatch) != record.key}
    assert moved == set()


def test_published_scores_mean_what_they_mean_today() -> None:
    """A study whose formulation's protocol is raised is made anew."""
    meant = {record.key: (record.protocol, key.protocol(record.config)) for record in _records()}
    assert {name: pair for name, pair in meant.items() if pair[0] != pair[1]} == {}


def test_what_cannot_be_composed_anew_was_refused_before_its_inputs_were_known() -> None:
    refused = [record for record in _records() if record.status == "not_applicable"]
    assert refused
    assert not any("model_fingerprint" in record.environment for record in refused)
