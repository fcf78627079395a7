"""What a score means is part of its run's key: by formulation, so that a change of one leaves the others' keys."""

import json
from pathlib import Path

import pytest

from peftbench.config import formulations, identity, loading
from peftbench.errors import NotApplicable
from peftbench.results import key, records
from peftbench.results.key import run_key
from peftbench.results.records import RunRecord
from tests.helpers.composed import composed

PUBLISHED = [
    file
    for file in sorted((Path(__file__).parents[2] / "results" / "published").glob("*/records/**/*.json"))
    if not file.name.endswith(".not-applicable.json")
]


def _key(record: RunRecord) -> str:
    """The key of a record's run, as it would be today."""
    made_of = record.environment
    return run_key(
        loading.from_description(record.config),
        data=made_of["data_fingerprint"],
        model=made_of["model_fingerprint"],
        inputs=made_of.get("inputs"),
    )


def _published() -> list[RunRecord]:
    """Without those of benchmarks, whose questions' fingerprints a record doesn't hold."""
    found = [records.from_dict(json.loads(file.read_text())) for file in PUBLISHED]
    return [record for record in found if not record.config.get("forgetting")]


def test_published_records_have_todays_keys_and_another_meaning_would_move_only_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = _published()
    assert len(published) > 100
    assert [record.key for record in published if _key(record) != record.key] == []
    monkeypatch.setitem(key.PROTOCOL, "text", 99)
    moved = [record for record in published if _key(record) != record.key]
    assert moved
    assert {formulations.described(record.config) for record in moved} == {"text"}


def test_every_formulation_has_a_protocol() -> None:
    assert set(key.PROTOCOL) == {way for _, way in formulations.WAYS}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=tiny_bert", "dataset=sst2"], 1),
        (["model=tiny_t5", "dataset=sst2"], 1),
        (["model=tiny_t5", "dataset=sst2", "formulation=text"], 2),
        (["model=tiny_t5", "dataset=copy"], 2),
        (["model=tiny_bert", "dataset=copy"], 2),  # Not applicable, but it has a key.
        (["model=tiny_bert", "dataset=wic"], 1),
        (["model=tiny_bert", "dataset=wsc"], 2),  # Whose marks were put elsewhere.
        (["model=tiny_t5", "dataset=wsc", "formulation=text"], 3),
        (["model=tiny_bert", "dataset=mixture", "dataset.parts=[wic,wsc]"], 2),
        (["model=tiny_bert", "dataset=mixture"], 1),
    ],
)
def test_a_record_has_the_protocol_of_its_run(overrides: list[str], expected: int) -> None:
    config = identity.description(composed(overrides))
    assert RunRecord(key="k", status="completed", config=config).protocol == expected
    assert RunRecord(key="k", status="completed", config=config, protocol=7).protocol == 7


@pytest.mark.parametrize("way", sorted(key.PROTOCOL))
def test_a_raised_protocol_moves_the_keys_of_its_formulation_alone(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def keys() -> dict[str, str]:
        return {
            how: run_key(composed(["model=tiny_t5", "dataset=sst2", f"formulation={how}"]), data="d", model="m")
            for how in key.PROTOCOL
        }

    before = keys()
    monkeypatch.setitem(key.PROTOCOL, way, key.PROTOCOL[way] + 1)
    after = keys()
    assert {how for how in before if before[how] != after[how]} == {way}


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama", "tiny_t5"])
@pytest.mark.parametrize("method", ["lora", "prompt", "cpt"])
def test_a_description_is_solved_as_its_run(model: str, method: str) -> None:
    config = composed([f"model={model}", f"method={method}", "dataset=sst2"])
    try:
        way = formulations.formulation(config)
    except NotApplicable:
        return
    assert formulations.described(identity.description(config)) == way
