"""Methods that end with a smaller model: what they minimise, what is left, what they refuse."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench.config import identity, loading
from peftbench.errors import ConfigError, NotApplicable
from peftbench.models import layers
from peftbench.results import finished
from peftbench.results.key import run_key
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.run.training.optimizer import factory
from peftbench.run.training.selection import SelectBest
from peftbench.run.verify import problem_with
from tests.helpers.built import Built, checkpoint
from tests.helpers.composed import composed


@pytest.fixture
def teacher(cell, tmp_path) -> Path:
    """A checkpoint's folder."""
    return checkpoint(cell("method=full"), tmp_path / "teacher")


@pytest.fixture
def run_and_keep(tiny, train):
    """A run whose record and weights are kept; the record's file."""

    def go(*more: str) -> Path:
        record = train("recipe.max_steps=2", *more)
        config = composed(tiny("recipe.max_steps=2", *more))
        return ResultStore(config.results_dir).put(config, record)

    return go


def test_the_loss_is_hintons(cell, teacher) -> None:
    case = Built(cell("method=distillation", f"method.inputs.teacher={teacher}", "method.args.alpha=0.3"))
    outputs = case.tuner(case.batch)
    z, v = outputs.logits, case.task.auto_model.from_pretrained(teacher)(**case.task.inputs(case.batch)).logits
    p, q = torch.softmax(v / 2, dim=1), torch.softmax(z / 2, dim=1)
    soft = (p * (p.log() - q.log())).sum(dim=1).mean()
    hard = -torch.log_softmax(z, dim=1)[torch.arange(16), case.batch["labels"]].mean()
    loss = case.method.loss(case.task.losses(outputs, case.batch).mean(), outputs, case.batch)
    assert torch.allclose(loss, 0.3 * 4 * soft + 0.7 * hard, atol=1e-5)
    loss.backward()
    assert all(p.grad is None for p in case.method._teacher.model.parameters())
    assert not case.method._teacher.model.training


def test_the_teacher_is_no_part_of_what_is_counted_saved_or_trained(cell, teacher) -> None:
    case = Built(cell("method=distillation", f"method.inputs.teacher={teacher}"))
    mine = {id(p) for p in case.tuner.parameters()}
    assert not mine & {id(p) for p in case.method._teacher.model.parameters()}


@pytest.mark.parametrize("method", ["full", *(pytest.param(m, marks=pytest.mark.slow) for m in ("lora", "prompt"))])
def test_a_finished_run_teaches(run_and_keep, cell, tmp_path, method: str) -> None:
    checkpoint(cell("method=full"), tmp_path / "all-MiniLM-L6-v2")
    model = ("model=minilm", f"model_root={tmp_path}")
    record = run_and_keep(f"method={method}", *model)
    case = Built(cell("method=distillation", f"method.inputs.teacher={record}", *model))
    (kept,) = (record.parents[4] / "predictions").rglob(f"{record.stem}.parquet")
    rows = [row for row in pq.read_table(kept).to_pylist() if row["split"] == "validation"]
    batch = case.data.slices["validation"].collate(range(8))
    answers = case.method._teacher.predictions(batch)
    expected = {row["row"]: row["scores"] for row in rows}
    assert torch.allclose(answers, torch.tensor([expected[i] for i in range(8)]), atol=1e-4)


def test_a_teachers_contents_name_a_run_and_its_path_is_not_recorded(tiny, train, teacher, tmp_path) -> None:
    def key(folder: Path) -> str:
        return prepare(composed(tiny("method=distillation", f"method.inputs.teacher={folder}"))).key

    copy = Path(shutil.copytree(teacher, tmp_path / "elsewhere"))
    first = key(teacher)
    assert key(copy) == first
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert key(copy) != first
    record = train("method=distillation", f"method.inputs.teacher={teacher}", "recipe.max_steps=1")
    assert record.key != first
    assert record.environment["inputs"]["teacher"] == finished.fingerprints({"teacher": str(teacher)})["teacher"]
    assert str(teacher) not in json.dumps(record.to_dict())


def test_without_inputs_keys_are_what_they_were() -> None:
    config = composed(["model=tiny_bert"])
    assert run_key(config, data="d", model="m") == run_key(config, data="d", model="m", inputs={})
    assert run_key(config, data="d", model="m") != run_key(config, data="d", model="m", inputs={"a": "b"})


def problem(found) -> str:
    answer = problem_with(found.config, found.checkpoint)
    assert answer is not None
    assert "\n" not in answer[0]
    return answer[0]


@pytest.mark.slow
def test_teachers_that_do_not_fit_are_refused(cell, tiny, run_and_keep, teacher, tmp_path) -> None:
    def refused(path: Path, *more: str) -> str:
        return problem(cell("method=distillation", f"method.inputs.teacher={path}", *more))

    assert "needs method.inputs.teacher" in problem(cell("method=distillation"))
    assert (
        problem_with(*(lambda c: (c.config, c.checkpoint))(cell("method=distillation", "method.args.alpha=0"))) is None
    )
    random = run_and_keep("method=lora")
    assert "tiny_bert starts at random, so that an adapter alone is of no use" in refused(random)
    mrpc = run_and_keep("method=lora", "dataset=mrpc")
    assert "its labels are not_equivalent, equivalent; here they are negative, positive" in refused(mrpc)
    words = run_and_keep("method=lora", "formulation=verbaliser")
    assert "it solves the task as verbaliser (encoder), the student as head (encoder)" in refused(words)
    other = run_and_keep("method=full", "model=tiny_roberta")
    assert "it reads other tokens than the student, tiny_bert" in refused(other)
    record = json.loads(mrpc.read_text())
    shutil.rmtree(ResultStore.weights_of(mrpc))
    with pytest.raises(ConfigError, match="weights weren't kept"):
        refused(mrpc)
    mrpc.write_text(json.dumps({**record, "status": "error"}))
    with pytest.raises(ConfigError, match="the run has failed"):
        refused(mrpc)
    with pytest.raises(ConfigError, match=r"allowed are a finished run's record \(.json\) and a folder"):
        refused(tmp_path / "nowhere")
    bare = Path(shutil.copytree(teacher, tmp_path / "bare"))
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**config, "id2label": {0: "no", 1: "yes", 2: "perhaps"}}))
    assert "can't be loaded" in refused(bare)
    other = checkpoint(cell("method=full", "dataset=mrpc"), tmp_path / "labels")
    assert "its labels are not_equivalent, equivalent; here they are negative, positive" in refused(other)
    headless = tmp_path / "headless"
    shutil.copytree(teacher, headless)
    state = load_file(headless / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "classifier" not in k}, headless / "model.safetensors", {"format": "pt"}
    )
    assert "lacks trained weights (classifier.bias, ...)" in refused(headless)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.args.keep=0", "method.args.keep=0: allowed is a number above 0 and at most 1"),
        ("method.args.alpha=2", "method.args.alpha=2: allowed is a number at least 0 and at most 1"),
        ("method.args.temperature=hot", "method.args.temperature=hot: allowed is a number above 0"),
        ("+method.args.heat=1", "method.args.heat: no such argument"),
    ],
)
def test_arguments_out_of_range_are_refused(cell, override: str, message: str) -> None:
    assert message in problem(cell("method=distillation", override))


def test_a_description_is_read_back() -> None:
    config = composed(["model=tiny_bert", "method=prompt", "dataset=sst2", "seed=3"])
    back = loading.from_description(json.loads(json.dumps(identity.description(config))))
    assert identity.description(back) == identity.description(config)
    assert identity.identity(back)["method"] == identity.identity(config)["method"]
    with pytest.raises(ConfigError, match="a record's configuration can't be read: .*nonsense"):
        loading.from_description({**identity.description(config), "nonsense": 1})


def test_kept_layers_are_the_models_own(cell) -> None:
    assert layers.spread(6, 3) == [0, 2, 4]
    assert layers.spread(12, 6) == [0, 2, 4, 6, 8, 10]
    assert layers.spread(5, 2) == [0, 2]
    assert [layers.share(6, share) for share in (0.5, 1, 0.01)] == [3, 6, 1]
    case = Built(cell("method=full"))
    before = {name: p.clone() for name, p in case.model.named_parameters()}
    layers.keep(case.model, {"bert.encoder.layer": [1]})
    after = dict(case.model.named_parameters())
    assert case.model.config.num_hidden_layers == 1
    for name, p in after.items():
        assert torch.equal(p, before[name.replace("layer.0.", "layer.1.")])
    assert not any("layer.1." in name for name in after)


def test_a_layer_that_others_need_stays(cell) -> None:
    case = Built(cell("method=full", "model=tiny_t5"))
    with pytest.raises(NotApplicable, match="can't do without these layers"):
        layers.keep(case.model, {"encoder.block": [1]})


DROPS = {"top": [[0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2]], "alternate": [[0, 1, 2, 3, 4], [0, 1, 2, 4], [0, 2, 4]]}


@pytest.mark.parametrize("drop", DROPS)
def test_layers_go_one_by_one_on_schedule(cell, drop: str) -> None:
    case = Built(cell("method=progressive_shrinking", "model.config.num_hidden_layers=6", f"method.args.drop={drop}"))
    # 100 steps: the first goes before step 10, the last before step 50, one between.
    optimizer = case.method.optimizer(case.model, factory(case.config.recipe, 1e-3))
    (callback,), first = case.method.callbacks(), list(case.model.bert.encoder.layer)
    seen = []
    for step in range(0, 60, 10):
        callback.on_train_batch_start(SimpleNamespace(global_step=step), None, None, 0)
        case.model.zero_grad()
        case.task.losses(case.tuner(case.batch), case.batch).mean().backward()
        optimizer.step()
        seen.append(
            [i for i, layer in enumerate(first) if any(layer is kept for kept in case.model.bert.encoder.layer)]
        )
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in case.model.parameters()}
        assert {id(p) for p in optimizer.state} <= {id(p) for p in case.model.parameters()}
        assert case.method.may_select(step + 1) is (step >= 50)
    whole = [0, 1, 2, 3, 4, 5]
    one, two, three = DROPS[drop]
    assert seen == [whole, one, one, two, two, three]


def test_what_is_scored_timed_and_saved_is_the_smaller_model(train, cell, tmp_path) -> None:
    whole = train("method=full", "recipe.max_steps=6")
    record = train("method=progressive_shrinking", "recipe.max_steps=6", "recipe.eval_steps=1")
    assert record.params["total"] == record.params["trainable"] < whole.params["total"]
    layer = 4 * (64 * 64 + 64) + 2 * 64 * 128 + 128 + 64 + 4 * 64
    assert whole.params["total"] - record.params["total"] == layer
    assert record.efficiency["adapter_bytes"] < whole.efficiency["adapter_bytes"] - 4 * layer + 4096
    assert record.efficiency["weights_bytes"] == whole.efficiency["weights_bytes"] - 4 * layer
    assert record.efficiency["inference_latency_ms_base"] > 0


def test_no_step_is_selected_before_the_model_has_its_size(train, monkeypatch) -> None:
    offered: list[int] = []
    original = SelectBest.offer

    def offer(self, score: float, step: int, *answers: Any) -> bool:
        offered.append(step)
        return original(self, score, step, *answers)

    monkeypatch.setattr(SelectBest, "offer", offer)
    arguments = (
        "recipe.max_steps=8",
        "recipe.eval_steps=1",
        "method.args={keep: 0.5, start: 0.5, end: 0.5, drop: top}",
    )
    record = train("method=progressive_shrinking", *arguments)
    # The layer goes before step 4 (from 0): the first weights of the smaller model are those after step 5.
    assert offered == [5, 6, 7, 8]
    assert record.selected_step >= 5
