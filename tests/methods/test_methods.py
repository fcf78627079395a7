"""What every method promises, on every tiny model: enumerated from conf/, so that a new file is tested at once."""

import re
from collections.abc import Callable

import pytest
import torch
from peft import PeftModel, PeftType, PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer

import peftbench.methods  # noqa: F401
from peftbench.config import paths
from peftbench.config.types import MethodConfig
from peftbench.errors import NotApplicable
from peftbench.methods.adalora import AdaLora
from peftbench.methods.build import build
from peftbench.methods.head_only import HeadOnlyConfig
from peftbench.methods.hub import Hub
from peftbench.methods.lora_init import Residual
from peftbench.models import backbones
from peftbench.run import outputs
from peftbench.run.verify import problem_with
from tests.helpers.built import Built
from tests.helpers.composed import adapter_classes, composed, trained

MODELS = [name for name in paths.choices("model") if name.startswith("tiny_")]
#: One of each kind is held to all promises; on the others a method must build, step, save and load.
WHOLE = ["tiny_bert", "tiny_llama", "tiny_gpt2", "tiny_t5"]
METHODS = paths.choices("method")
TRAINED = list(trained())


def cases(models: list[str], methods: list[str] = METHODS) -> list:
    """BERT's in the default run, the others' in the matrix."""
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [pytest.param(a, b, marks=[] if b == "tiny_bert" else rest, id=f"{a}-{b}") for b in models for a in methods]


@pytest.fixture
def built(cell, named) -> Callable[..., Built]:
    return lambda method, model, *more: Built(cell(*named(method, model), *more))


def test_every_type_of_peft_has_a_file() -> None:
    found = {build(_method(name))._class for name in adapter_classes(Hub)}
    known = {PEFT_TYPE_TO_CONFIG_MAPPING[kind]: kind.value for kind in PeftType}
    assert {name for known_class, name in known.items() if known_class not in found} == set()


def _method(name: str) -> MethodConfig:
    return composed([f"method={name}"]).method


def test_the_cases_are_there() -> None:
    assert set(WHOLE) < set(MODELS)
    families = {composed([f"model={model}"]).model.family for model in WHOLE}
    assert families == {"encoder", "decoder", "encoder_decoder"}
    assert set(TRAINED) < set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_says_what_it_promises_and_where_it_is_from(method: str) -> None:
    config = _method(method)
    text = paths.choice_files("method")[method].read_text()
    assert text.startswith("# ")
    assert config.summary
    assert config.family
    if config.lr is not None:
        assert config.source
        assert re.search(r"arXiv \d{4}\.\d{4,5}|documentation", config.source), config.source
        assert re.search(r"^identity: (true|false|null)$", text, re.MULTILINE)
        assert config.mergeable is not None or method not in adapter_classes(Hub)
        assert "lr" in config.search


@pytest.mark.parametrize(("method", "model"), cases(MODELS, TRAINED))
def test_invariants(built, cell, named, method: str, model: str, tmp_path, record_property) -> None:
    """All promises of a method on a model, in one test: building the pair takes longer than any check."""
    found = cell(*named(method, model))
    problem = problem_with(found.config, found.checkpoint)
    if problem is not None:
        assert problem[1], problem[0]
        record_property("not_applicable", problem[0])
        return
    try:
        case = built(method, model)
    except NotApplicable as reason:
        record_property("not_applicable", str(reason))
        return
    whole = model in WHOLE
    if whole:
        starts_as_promised(case)
    adapts_what_it_says_and_nothing_else(case)
    trains_the_head(case)
    if whole:
        neighbours_change_nothing(case)
        merges_as_promised(case)
    saves_and_loads(case, tmp_path)


def starts_as_promised(case: Built) -> None:
    start, base = case.logits(), case.logits(unpacked_base(case))
    promised = case.config.method.identity
    if promised:
        assert torch.allclose(start, base, atol=1e-5), "not the base's answers before training"
    elif promised is None:
        assert torch.allclose(start, base, atol=5e-2 * base.abs().max()), "not near the base's answers before training"
    else:
        assert not torch.allclose(start, base, atol=1e-7), "promised not to be the identity, and is"


def unpacked_base(case: Built) -> torch.nn.Module:
    torch.manual_seed(3)
    config = composed([f"model={case.config.model.name}", "method=full"])
    return backbones.load_model(config, case.cell.checkpoint, case.task)


def adapts_what_it_says_and_nothing_else(case: Built) -> None:
    trained = {n for n, p in case.model.named_parameters() if p.requires_grad and not case.in_head(n)}
    before = {n: p.detach().clone() for n, p in case.model.named_parameters()}
    first = case.loss()
    alone = getattr(case.method, "_class", None) is HeadOnlyConfig  # Nothing else could make the loss fall.
    case.train(max(3, case.method.cycle()), head=alone)
    changed = {n for n, p in case.model.named_parameters() if not torch.equal(p, before[n])}
    frozen = {n for n in before if n not in trained and not (alone and case.in_head(n))}
    assert not changed & frozen, "frozen weights have moved"
    # A layer owns its tensors: `...query.lora_A.default.weight` belongs to `query`. A key's bias has no gradient.
    layers = {_layer(n) for n in trained if "key.bias" not in n and "k_lin.bias" not in n}
    still = layers - {_layer(n) for n in changed}
    assert not still, f"adapted layers that never move: {sorted(still)[:3]}"
    for _ in range(8):
        if case.loss() < first - 1e-3:
            return
        case.train(5, head=alone)
    raise AssertionError("the loss doesn't fall")


def _layer(name: str) -> str:
    return re.split(r"\.(?=[a-zA-Z0-9]+_|default)", name)[0] if "default" in name else name.rpartition(".")[0]


def trains_the_head(case: Built) -> None:
    if case.task.formulation != "head":
        return
    head = {n: p.detach().clone() for n, p in case.model.named_parameters() if p.requires_grad and case.in_head(n)}
    assert head, "the task head must be trained"
    case.train(2)
    now = dict(case.model.named_parameters())
    assert [n for n in head if not torch.equal(now[n], head[n])], "the task head doesn't move"


def saves_and_loads(case: Built, folder) -> None:
    expected = case.logits()
    assert outputs.save(case.method, case.model, folder / "adapter", keep=True) > 0
    if isinstance(case.model, PeftModel):
        # Loaded for inference, peft's AdaLoRA fails where it is given labels, as an encoder-decoder is.
        trainable = isinstance(case.method, AdaLora)
        loaded = PeftModel.from_pretrained(case.fresh_base(), folder / "adapter", is_trainable=trainable)
    else:
        loaded = case.task.auto_model.from_pretrained(folder / "adapter")
    # Those that are saved as the difference to their start are as exact as 32-bit sums are.
    tolerance = 1e-4 if isinstance(case.method, Residual) else 0.0
    assert torch.allclose(case.logits(loaded), expected, atol=tolerance, rtol=0), "loaded it answers otherwise"


def merges_as_promised(case: Built) -> None:
    expected = case.logits()
    merged = case.method.merge(case.model)
    if not case.config.method.mergeable:
        assert merged is None
    elif merged is None:
        assert not any(layer.get_base_layer().bias is not None for layer in _layers(case.model)), "it should merge"
    else:
        assert not isinstance(merged, PeftModel)
        assert torch.allclose(case.logits(merged), expected, atol=1e-4), "merged it answers otherwise"
    assert torch.equal(case.logits(), expected), "merging a copy has changed the model itself"


def _layers(model: torch.nn.Module) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def neighbours_change_nothing(case: Built) -> None:
    if "depend on the batch" in (case.config.method.footnote or ""):
        return
    together = case.logits()
    apart = [case.logits(batch=case.data.train.collate([index]))[0] for index in (0, 5)]
    for i, alone in zip((0, 5), apart, strict=True):
        assert torch.allclose(together[i], alone, atol=1e-4), "padding and neighbours change an answer"


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize(("method", "model"), cases(WHOLE, TRAINED))
def test_gradient_checkpointing_works_or_is_refused(built, cell, named, method: str, model: str) -> None:
    arguments = (method, model, "hardware.gradient_checkpointing=true")
    found = cell(*named(method, model), arguments[2])
    problem = problem_with(found.config, found.checkpoint)
    if _method(method).checkpointing is False:
        assert problem is not None
    if problem is not None:
        assert problem[1], problem[0]
        return
    gradients, start = [], None
    for more in ([], [arguments[2]]):
        case = built(method, model, *more)
        # Some begin with singular vectors, whose signs hang on the last digit.
        start = start or {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
        case.model.load_state_dict(start, strict=False)  # Packed weights have keys that only loading a file takes.
        for module in case.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        case.model.train()
        for m in case.model.modules():  # Attention's own dropout is a number, not a module.
            for name in ("dropout", "dropout_prob", "attention_dropout"):
                if isinstance(getattr(m, name, None), float):
                    setattr(m, name, 0.0)
        case.method.optimizer(case.model, lambda groups: torch.optim.SGD(groups, lr=0.1))
        case.task.losses(case.tuner(case.batch), case.batch).mean().backward()
        gradients.append({n: p.grad for n, p in case.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    if "shadow" not in method:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, gradients[1][name], atol=1e-4 * max(1.0, gradient.abs().max())), name


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("method", METHODS)
def test_a_run_records_everything(train, cell, named, method: str) -> None:
    for model in WHOLE:
        found = cell(*named(method, model))
        problem = problem_with(found.config, found.checkpoint)
        if problem is None:
            break
        assert problem[1], problem[0]
    else:
        assert _method(method).target.endswith(("Refused", "LoftQ", ".Hosted", ".Prompted"))
        return
    record = train(*named(method, model), "recipe.max_steps=6")
    assert record.status == "completed"
    assert set(record.metrics) == {"train", "selection", "validation"}
    assert record.score == record.metrics["validation"]["values"]["accuracy"]
    speed = record.efficiency
    assert speed["inference_latency_ms"] > 0
    assert speed["inference_samples_per_s_base"] > 0
    assert speed["weights_bytes"] > 0
    if method in TRAINED:
        assert record.params["trainable"] == record.params["adapter"] + record.params["head"]
        assert speed["train_samples_per_s"] > 0
        assert speed["adapter_bytes"] > 0
        merged = speed["inference_latency_ms_merged"]
        assert (merged is not None) is bool(_method(method).mergeable)
    else:
        assert record.params["trainable"] == 0
        assert speed["train_time_s"] is None


def test_majority_answers_the_commonest_class(train) -> None:
    record = train("method=majority")
    assert record.metrics["validation"]["values"]["accuracy"] == 0.5
    assert record.metrics["validation"]["loss"] == pytest.approx(0.693, abs=0.02)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+method.adapter.rr=4", "method.adapter.rr: LoraConfig has no such argument; nearest: r"),
        ("method.adapter.r=0", "`r` should be a positive integer"),
        ("method.adapter._target_=os.system", "method.adapter._target_=os.system: allowed is a subclass of peft"),
        ("method.adapter._target_=torch.nn.Linear", "allowed is a subclass of peft"),
        ("method._target_=builtins.dict", "allowed is a subclass of peftbench.methods.base.Method"),
        ("method.adapter.target_modules=[nowhere]", "No modules were targeted"),
        ("method.lr=null", "needs a learning rate"),
        ("method.supports=[decoder]", "of the family encoder"),
        ("+dataset.metrics.blue=max", "blue is no metric; allowed are accuracy, "),
        ("formulation=text", "an encoder writes no text"),
        ("recipe.optimizer.betas=[2,3]", "recipe.optimizer"),
        ("recipe.optimizer._target_=torch.nn.Linear", "subclass of torch.optim"),
        ("logger._target_=nowhere.Logger", "logger._target_"),
    ],
)
def test_what_only_torch_and_peft_can_see_is_refused_before_training(cell, override: str, message: str) -> None:
    found = cell(override)
    problem = problem_with(found.config, found.checkpoint)
    assert problem is not None
    assert message in problem[0]
    assert "\n" not in problem[0]


def test_prompt_methods_are_those_of_peft() -> None:
    """Guards the test above: a method that is silently not applicable everywhere would pass it."""
    prompts = [kind for kind in adapter_classes(Hub).values() if issubclass(kind, PromptLearningConfig)]
    assert len(prompts) >= 8
