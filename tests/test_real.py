"""On real data (PEFTBENCH_DATA_ROOT) and real weights (the `demo` extra)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from peftbench import backbones, compose, paths, tasks
from peftbench.job import prepare
from peftbench.run import Job, run
from peftbench.store import ResultStore

pytestmark = pytest.mark.slow

SETS = [name for name in paths.choices("dataset") if compose.one([f"dataset={name}"]).dataset.path]


@pytest.fixture
def run_real(real_data: str, results: Path) -> Callable:
    def go(*overrides: str):
        config = compose.one([*overrides, f"data_root={real_data}", f"results_dir={results}"])
        found = prepare(config)
        places = ResultStore(results).places(config, found.key)
        return found, places, run(Job(config, found.key, found.source, found.checkpoint, places, [], lambda e: None))

    return go


@pytest.mark.parametrize("name", SETS)
def test_every_data_set_runs(run_real: Callable, name: str) -> None:
    short = ["recipe.train_samples=64", "recipe.eval_samples=64", "recipe.epochs=1"]
    _, _, record = run_real(f"dataset={name}", "model=tiny_bert", *short)
    assert set(record.metrics["validation"]["values"]) == set(record.config["dataset"]["metrics"])
    assert record.metrics["validation"]["n"] == 64
    assert record.samples["train"] == 64
    assert any("trained on 64 of" in note for note in record.footnotes)


def test_a_stand_in_split_is_said_to_be_one(run_real: Callable) -> None:
    short = ["recipe.train_samples=64", "recipe.eval_samples=64", "recipe.epochs=1"]
    _, _, record = run_real("dataset=qqp", "model=tiny_bert", *short)
    assert "qqp: validation has 1000 rows, the official one 40430" in record.footnotes


@pytest.mark.parametrize("method", ["lora", "bitfit", "prefix", "houlsby"])
def test_a_saved_adapter_answers_the_same_on_a_fresh_minilm(run_real: Callable, method: str) -> None:
    short = ["recipe.train_samples=64", "recipe.eval_samples=64", "recipe.epochs=1"]
    found, places, record = run_real("dataset=sst2", f"method={method}", *short)
    task = tasks.build(found.config)
    base = backbones.load_model(found.config, found.checkpoint, task)
    loaded = PeftModel.from_pretrained(base, places.adapter).eval()
    tokenizer = backbones.load_tokenizer(found.config.model, found.checkpoint)

    import pyarrow.parquet as pq

    from peftbench.data import sources

    kept = [row for row in pq.read_table(places.predictions).to_pylist() if row["split"] == "validation"][:8]
    texts = sources.read(found.source, "validation", ["sentence"]).column("sentence").to_pylist()
    for row in kept:
        with torch.no_grad():
            logits = loaded(**tokenizer(texts[row["row"]], return_tensors="pt")).logits[0]
        assert logits.tolist() == pytest.approx(row["scores"], abs=1e-4)
    assert record.efficiency["adapter_bytes"] > 0
