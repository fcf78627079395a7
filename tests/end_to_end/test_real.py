"""On real data (PEFTBENCH_DATA_ROOT) and real weights (the `demo` extra)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from peftbench.models import backbones
from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from peftbench.tasks import table
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed, written

pytestmark = pytest.mark.slow

#: Data sets of the hub; of these, PEFTBENCH_DATA_ROOT may hold some.
SETS = [name for name, file in written("dataset").items() if file.get("path")]
SHORT = ["recipe.train_samples=64", "recipe.eval_samples=16", "recipe.epochs=1", "recipe.max_steps=4", "measure=false"]


def present(root: str) -> list[str]:
    """The sets of which the folder has what a run needs at least."""
    found = []
    for name in SETS:
        data = composed([f"dataset={name}"]).dataset
        folder = Path(root, str(data.path).split("/")[-1])
        wanted = [(data.train_config or data.config, data.train), (data.config, data.evaluation[0])]
        if all(list((folder / (config or "")).glob(f"{split}-*.parquet")) for config, split in wanted):
            found.append(name)
    return found


def test_the_folder_holds_data_sets(real_data: str) -> None:
    assert len(present(real_data)) >= 10


@pytest.fixture
def run_real(real_data: str, results: Path) -> Callable:
    def go(*overrides: str):
        config = composed([*overrides, f"data_root={real_data}", f"results_dir={results}"])
        found = prepare(config)
        places = ResultStore(results).places(config, found.key)
        return (
            found,
            places,
            run(RunContext(found, places, [], lambda event: None)),
        )

    return go


@pytest.mark.parametrize("name", SETS)
def test_every_data_set_runs(run_real: Callable, real_data: str, name: str) -> None:
    if name not in present(real_data):
        pytest.skip(f"{real_data} has no {name}")
    # A byte is a token here, and some questions are long. What is written takes a model that writes.
    heads = (composed([f"dataset={name}"]).dataset.task, "head") in table.TASKS
    model = "tiny_bert" if heads else "tiny_t5"
    _, _, record = run_real(f"dataset={name}", f"model={model}", "recipe.max_length=500", *SHORT)
    data, split = record.config["dataset"], record.config["dataset"]["evaluation"][0]
    assert set(record.metrics[split]["values"]) == set(data["metrics"])
    assert 0 < record.metrics[split]["n"]
    assert 0 < record.samples["train"] <= 64
    assert record.samples["train"] == 64 or data["rows"]["train"] > 64
    missing = [s for s in data["evaluation"] if record.metrics[s] is None]
    assert {f"{name}: the data has no {s}" for s in missing} <= set(record.footnotes)


def test_a_stand_in_split_is_said_to_be_one(run_real: Callable) -> None:
    _, _, record = run_real("dataset=qqp", "model=tiny_bert", *SHORT)
    assert "qqp: validation has 1000 rows, the official one 40430" in record.footnotes


@pytest.mark.parametrize("method", ["lora", "bitfit", "prefix", "houlsby"])
def test_a_saved_adapter_answers_the_same_on_a_fresh_minilm(run_real: Callable, method: str) -> None:
    found, places, record = run_real("dataset=sst2", f"method={method}", *SHORT)
    task = build_task(found.config)
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
