"""A run's key: what changes it and what doesn't."""

import pytest

from peftbench.config import identity
from peftbench.results import key as keys
from peftbench.results.key import run_key
from peftbench.system import fingerprint
from tests.helpers.composed import composed


class TestKey:
    def _key(self, *overrides: str, data: str = "d", model: str = "m") -> str:
        return run_key(composed(overrides), data=data, model=model)

    @pytest.mark.parametrize(
        "override",
        ["seed=1", "method.lr=0.5", "method.adapter.r=4", "recipe.epochs=7", "hardware=cpu_bf16", "dataset=sst2",
         "model=bert_base", "hardware.threads=1", "dataset.carve.seed=9", "formulation=head", "method=full"],
    )  # fmt: skip
    def test_what_decides_the_result_changes_it(self, override: str) -> None:
        assert self._key(override) != self._key()

    @pytest.mark.parametrize(
        "override",
        ["results_dir=x", "data_root=y", "model_root=z", "logger=csv", "overwrite=true", "save_adapters=false"],
    )
    def test_places_and_sinks_do_not(self, override: str) -> None:
        assert self._key(override) == self._key()

    def test_inputs_and_protocol_change_it(self, monkeypatch) -> None:
        key = self._key()
        assert self._key(data="e") != key
        assert self._key(model="n") != key
        monkeypatch.setitem(keys.PROTOCOL, "head", keys.PROTOCOL["head"] + 1)
        assert self._key() != key

    def test_a_new_null_field_invalidates_nothing(self) -> None:
        decides = identity.identity(composed([]))
        assert None not in decides["recipe"].values()
        assert "max_steps" not in decides["recipe"]

    def test_seed_zero_is_a_seed(self) -> None:
        assert identity.identity(composed(["seed=0"]))["seed"] == 0

    def test_key_order_is_irrelevant(self) -> None:
        assert fingerprint.of_json({"a": 1, "b": 2}) == fingerprint.of_json({"b": 2, "a": 1})
