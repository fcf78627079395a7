"""What every method promises, on every tiny model: enumerated from conf/, so that a new file is tested at once."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from peftbench import artefacts, backbones, compose, paths, tasks
from peftbench.data.datamodule import TaskDataModule
from peftbench.job import Cell
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.module import FineTuner
from peftbench.optim import factory
from peftbench.store import ResultStore

MODELS = [name for name in paths.choices("model") if name.startswith("tiny_")]
METHODS = paths.choices("method")
CASES = [(method, model) for method in METHODS for model in MODELS]


class Built:
    """A method applied to a model, with one batch that it can be trained on."""

    def __init__(self, found: Cell) -> None:
        self.config, self.cell = found.config, found
        torch.manual_seed(0)
        self.task = tasks.build(self.config)
        tokenizer = backbones.load_tokenizer(self.config.model, found.checkpoint)
        cache = ResultStore(self.config.results_dir).cache
        data = TaskDataModule(
            self.config, self.task, tokenizer, source=found.source, tokenizer_fingerprint="t", cache=cache
        )
        data.setup()
        self.data = data
        self.batch = data.train.collate(range(16))
        self.method = build(self.config.method)
        self.base = self.fresh_base()
        context = Context(self.config.model, self.task, 100, 0, data.train_once)
        self.model = self.method.apply(self.fresh_base(), context)
        self.tuner = FineTuner(
            self.model,
            task=self.task,
            method=self.method,
            recipe=self.config.recipe,
            micro_batch_size=None,
            total_steps=100,
        )

    def fresh_base(self) -> torch.nn.Module:
        torch.manual_seed(3)
        return backbones.load_model(self.config.model, self.cell.checkpoint, self.task)

    def logits(self, model: torch.nn.Module | None = None, batch: dict | None = None) -> torch.Tensor:
        model = (model or self.model).eval()
        with torch.no_grad():
            return model(**self.tuner.inputs(batch or self.batch)).logits

    def loss(self) -> float:
        return torch.nn.functional.cross_entropy(self.logits(), self.batch["labels"]).item()

    def train(self, steps: int) -> list[float]:
        lr = self.config.method.lr
        optimizer = self.method.optimizer(self.model, factory(self.config.recipe, lr))
        losses = []
        self.model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self.task.losses(self.tuner(self.batch), self.batch).mean()
            self.method.loss(loss, None, self.batch).backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


@pytest.fixture
def built(cell: Callable[..., Cell]) -> Callable[[str, str], Built]:
    return lambda method, model: Built(cell(f"method={method}", f"model={model}"))


def trains(method: str) -> bool:
    return compose.one([f"method={method}"]).method.lr is not None


def tiered(cases: list[tuple[str, str]]) -> list:
    """The first model's cases in the default run, the others' in the slow tier."""
    return [pytest.param(*case, marks=[] if case[1] == MODELS[0] else [pytest.mark.slow]) for case in cases]


TRAINED = [case for case in CASES if trains(case[0])]


def test_the_cases_are_there() -> None:
    assert len(CASES) == len(METHODS) * len(MODELS) >= 24
    assert len(TRAINED) < len(CASES)


@pytest.mark.parametrize(("method", "model"), tiered(TRAINED))
def test_trains_what_it_says_and_nothing_else(built: Callable[[str, str], Built], method: str, model: str) -> None:
    case = built(method, model)
    before = {name: p.detach().clone() for name, p in case.model.named_parameters()}
    losses = case.train(3)
    changed = {name for name, p in case.model.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in case.model.named_parameters() if p.requires_grad}
    assert changed <= trained
    # A key's bias shifts every score alike and gets no gradient; prompts are looked up row by row.
    unmoved = {name for name in trained - changed if "key" not in name}
    assert not unmoved
    assert len(set(losses)) == 3
    head = {name for name in trained if backbones.in_head(name, case.config.model.head)}
    assert head, "the task head must be trained"


@pytest.mark.parametrize(("method", "model"), tiered(TRAINED))
def test_fits_one_batch(built: Callable[[str, str], Built], method: str, model: str) -> None:
    case = built(method, model)
    before = case.loss()
    case.train(20)
    assert case.loss() < before - 1e-3


@pytest.mark.parametrize(("method", "model"), tiered(TRAINED))
def test_starts_as_the_base_does(built: Callable[[str, str], Built], method: str, model: str) -> None:
    case = built(method, model)
    if isinstance(case.model, PeftModel) and case.model.active_peft_config.is_prompt_learning:
        # A prompt is seen from the first step on: if nothing changed, it wouldn't be there.
        assert not torch.allclose(case.logits(), case.logits(case.base), atol=1e-6)
        return
    # Houlsby starts near the identity (weights of standard deviation 0.01), all others at it.
    tolerance = 1e-2 if method == "houlsby" else 1e-6
    assert torch.allclose(case.logits(), case.logits(case.base), atol=tolerance)


@pytest.mark.parametrize(("method", "model"), tiered(TRAINED))
def test_saved_and_loaded_onto_a_fresh_base_it_answers_the_same(
    built: Callable[[str, str], Built], method: str, model: str, tmp_path
) -> None:
    case = built(method, model)
    case.train(3)
    expected = case.logits()
    size = artefacts.save(case.method, case.model, tmp_path / "adapter", keep=True)
    assert size > 0
    if isinstance(case.model, PeftModel):
        loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "adapter")
    else:
        loaded = case.task.auto_model.from_pretrained(tmp_path / "adapter")
    assert torch.equal(case.logits(loaded), expected)


@pytest.mark.parametrize(("method", "model"), tiered(TRAINED))
def test_merged_it_answers_the_same(built: Callable[[str, str], Built], method: str, model: str) -> None:
    case = built(method, model)
    case.train(3)
    expected = case.logits()
    merged = case.method.merge(case.model)
    if merged is None:
        # A method that can't merge must leave the model as it was.
        assert torch.equal(case.logits(), expected)
        return
    assert not [name for name, _ in merged.named_modules() if "lora" in name or "bitfit" in name]
    assert torch.allclose(case.logits(merged), expected, atol=1e-5)


def test_these_methods_merge(built: Callable[[str, str], Built]) -> None:
    cases = {method: built(method, "tiny_bert") for method, model in TRAINED if model == "tiny_bert"}
    merges = {method for method, case in cases.items() if case.method.merge(case.model) is not None}
    assert merges == {"lora", "ia3", "bitfit", "linear_probe"}


@pytest.mark.parametrize(("method", "model"), tiered(CASES))
def test_padding_and_neighbours_change_nothing(built: Callable[[str, str], Built], method: str, model: str) -> None:
    case = built(method, model)
    together = case.logits()
    for index in (0, 5):
        alone = case.logits(batch=case.data.train.collate([index]))
        assert torch.allclose(together[index], alone[0], atol=1e-5)


@pytest.mark.parametrize(("method", "model"), tiered(CASES))
def test_a_run_records_everything(train, method: str, model: str) -> None:
    record = train(f"method={method}", f"model={model}", "recipe.max_steps=6")
    assert record.status == "completed"
    assert set(record.metrics) == {"train", "selection", "validation"}
    assert record.score == record.metrics["validation"]["values"]["accuracy"]
    speed = record.efficiency
    assert speed["inference_latency_ms"] > 0
    assert speed["inference_samples_per_s_base"] > 0
    if trains(method):
        assert record.params["head"] > 0
        assert record.params["trainable"] == record.params["adapter"] + record.params["head"]
        assert speed["train_samples_per_s"] > 0
        assert speed["adapter_bytes"] > 0
    else:
        assert record.params["trainable"] == 0
        assert speed["train_time_s"] is None


def test_majority_answers_the_commonest_class(train) -> None:
    record = train("method=majority")
    assert record.metrics["validation"]["values"]["accuracy"] == 0.5
    assert record.metrics["validation"]["loss"] == pytest.approx(0.693, abs=0.02)


def test_lora_counts_on_roberta_base_are_the_papers() -> None:
    """294,912 without the head (arXiv 2106.09685, Table 2 prints 0.3M) and 887,042 with it."""
    from transformers import RobertaConfig

    from peftbench.checkpoints import Checkpoint

    config = compose.one(["model=roberta_base", "method=lora", "dataset=rte"])
    task = tasks.build(config)
    config.model.config = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1} | {
        "model_type": RobertaConfig.model_type
    }
    empty = backbones.build_empty(config.model, Checkpoint(None, ""), task)
    context = Context(config.model, task, 1, 0, list)
    counts = artefacts.count(build(config.method).apply(empty, context), config.model.head)
    assert counts["adapter"] == 294_912
    assert counts["trainable"] == 887_042
    assert counts["total"] == 125_237_762 - 590_592 + 294_912 + 590_592 - 590_592


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+method.adapter.rr=4", "method.adapter.rr: LoraConfig has no such argument; nearest: r"),
        ("method.adapter.r=0", "`r` should be a positive integer"),
        ("method.adapter._target_=os.system", "method.adapter._target_=os.system: can't be imported"),
        ("method.adapter._target_=torch.nn.Linear", "allowed is a subclass of peft"),
        ("method._target_=builtins.dict", "allowed is a subclass of peftbench.methods.base.Method"),
        ("method.adapter.target_modules=[nowhere]", "No modules were targeted"),
        ("method.lr=null", "needs a learning rate"),
        ("method.supports=[decoder]", "of the family encoder"),
        ("dataset.task=poetry", "allowed are classification"),
        ("+dataset.metrics.blue=max", "allowed are accuracy, f1, matthews"),
        ("formulation=text", "is solved as auto, head"),
        ("recipe.optimizer.betas=[2,3]", "recipe.optimizer"),
        ("recipe.optimizer._target_=torch.nn.Linear", "subclass of torch.optim"),
        ("logger._target_=nowhere.Logger", "logger._target_"),
    ],
)
def test_what_only_torch_and_peft_can_see_is_refused_before_training(cell, override: str, message: str) -> None:
    from peftbench.worker import _problem

    found = cell(override)
    problem = _problem(found.config, found.checkpoint)
    assert problem is not None
    assert message in problem
    assert "\n" not in problem
