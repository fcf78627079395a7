"""Our own peft tuners (BitFit, Houlsby's bottleneck adapters, head only) on tiny random models."""

import copy
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    T5ForSequenceClassification,
)
from transformers.pytorch_utils import Conv1D

from peftbench.methods.bitfit import BitFitConfig, BitFitLayer, BitFitTuner
from peftbench.methods.bottleneck import BottleneckConfig, BottleneckLinear
from peftbench.methods.head_only import HeadOnlyConfig
from peftbench.methods.tuners.adapter import register

# peft uses names that transformers has replaced by "activation checkpointing"
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

H, INNER, LAYERS, VOCAB, RANK, LABELS = 32, 64, 2, 60, 4, 3
ENCODER = {
    "vocab_size": VOCAB,
    "hidden_size": H,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": LABELS,
}
T5 = T5Config(
    vocab_size=VOCAB, d_model=H, d_kv=16, d_ff=INNER, num_layers=LAYERS, num_heads=2,
    dropout_rate=0.0, decoder_start_token_id=0, num_labels=LABELS,
)  # fmt: skip
GPT2 = GPT2Config(
    vocab_size=VOCAB, n_embd=H, n_layer=LAYERS, n_head=2, n_positions=40,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
LLAMA = LlamaConfig(
    vocab_size=VOCAB, hidden_size=H, intermediate_size=INNER, num_hidden_layers=LAYERS,
    num_attention_heads=2,
)  # fmt: skip
DISTILBERT = DistilBertConfig(
    vocab_size=VOCAB, dim=H, hidden_dim=INNER, n_layers=LAYERS, n_heads=2,
    max_position_embeddings=40, num_labels=LABELS,
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    build: Callable[[], PreTrainedModel]
    task_type: str
    sublayers: list[str]  # the targets of Houlsby's placement
    n_sublayers: int
    n_biases: int | None  # None: there are none
    n_head: int


BERT_SUBLAYERS = ["attention.output.dense", "output.dense"]
FAMILIES = {
    "bert": Family(
        lambda: BertForSequenceClassification(BertConfig(**ENCODER)), "SEQ_CLS", BERT_SUBLAYERS,
        n_sublayers=2 * LAYERS, n_biases=H + LAYERS * (7 * H + INNER) + H,
        n_head=LABELS * (H + 1),
    ),
    "roberta": Family(
        lambda: RobertaForSequenceClassification(RobertaConfig(**ENCODER)), "SEQ_CLS",
        BERT_SUBLAYERS, n_sublayers=2 * LAYERS, n_biases=H + LAYERS * (7 * H + INNER),
        n_head=H * (H + 1) + LABELS * (H + 1),
    ),
    "gpt2": Family(
        lambda: GPT2LMHeadModel(GPT2), "CAUSAL_LM", ["attn.c_proj", "mlp.c_proj"],
        n_sublayers=2 * LAYERS, n_biases=LAYERS * 11 * H + H, n_head=0,
    ),
    "llama": Family(
        lambda: LlamaForCausalLM(LLAMA), "CAUSAL_LM", ["o_proj", "down_proj"],
        n_sublayers=2 * LAYERS, n_biases=None, n_head=0,
    ),
    "t5": Family(
        lambda: T5ForConditionalGeneration(T5), "SEQ_2_SEQ_LM",
        ["SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"],
        n_sublayers=5 * LAYERS, n_biases=None, n_head=0,
    ),
}  # fmt: skip
WITH_BIASES = [name for name, family in FAMILIES.items() if family.n_biases is not None]
WITH_HEAD = [name for name, family in FAMILIES.items() if family.n_head]
CASES = [
    *(("bitfit", name) for name in WITH_BIASES),
    *(("houlsby", name) for name in FAMILIES),
    *(("head_only", name) for name in WITH_HEAD),
]
every_case = pytest.mark.parametrize(("method", "name"), CASES)
every_bitfit = pytest.mark.parametrize("name", WITH_BIASES)


@functools.cache
def _base(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for tensor in model.parameters():  # biases start at zero
            tensor.add_(0.05 * torch.randn_like(tensor))
    return model


def base(name: str) -> PreTrainedModel:
    """The same weights at every call."""
    return copy.deepcopy(_base(FAMILIES[name].build))


def config(method: str, name: str, **changes: object) -> PeftConfig:
    family = FAMILIES[name]
    if method == "bitfit":
        return BitFitConfig(task_type=family.task_type, **changes)
    if method == "head_only":
        return HeadOnlyConfig(task_type=family.task_type, **changes)
    arguments = {"bottleneck_size": RANK, "target_modules": family.sublayers, **changes}
    return BottleneckConfig(task_type=family.task_type, **arguments)


def adapted(method: str, name: str, **changes: object) -> PeftModel:
    return get_peft_model(base(name), config(method, name, **changes)).eval()


def batch(name: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCAB, (4, 7), generator=draw)
    return {"input_ids": ids, "labels": torch.arange(4) % LABELS if name in WITH_HEAD else ids}


@torch.no_grad()
def logits(model: nn.Module, name: str) -> Tensor:
    return model.eval()(**batch(name)).logits


def train(model: nn.Module, name: str, lr: float = 1e-2) -> nn.Module:
    """Three steps of AdamW on what is trainable."""
    tensors = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(tensors, lr=lr, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**batch(name)).loss.backward()
        optimizer.step()
    return model.eval()


def trainable(model: nn.Module) -> dict[str, int]:
    return {n: t.numel() for n, t in model.named_parameters() if t.requires_grad}


def layers(model: nn.Module, kind: type[nn.Module]) -> dict[str, nn.Module]:
    return {n: module for n, module in model.named_modules() if isinstance(module, kind)}


def randomise(model: nn.Module) -> None:
    torch.manual_seed(2)
    for tensor in model.parameters():
        if tensor.requires_grad:
            nn.init.normal_(tensor, std=0.3)


# --- what is trained ---------------------------------------------------------------------------


@every_case
def test_trainable_count_is_the_closed_form(method: str, name: str) -> None:
    family = FAMILIES[name]
    adapter = {
        "bitfit": family.n_biases,
        "houlsby": family.n_sublayers * (2 * H * RANK + RANK + H),
        "head_only": 0,
    }[method]
    assert sum(trainable(adapted(method, name)).values()) == adapter + family.n_head


@every_case
def test_training_moves_every_adapted_layer_and_nothing_else(method: str, name: str) -> None:
    model = adapted(method, name)
    before = {n: t.clone() for n, t in model.named_parameters()}
    train(model, name)
    moved = {n for n, t in model.named_parameters() if not torch.equal(t, before[n])}
    assert moved == set(trainable(model))
    assert moved
    wrapped = layers(model, (BaseTunerLayer, ModulesToSaveWrapper))
    assert wrapped
    assert all(any(n.startswith(f"{layer}.") for n in moved) for layer in wrapped)


@every_bitfit
def test_bitfit_trains_as_the_biases_themselves_would(name: str) -> None:
    # In float64: the keys' biases have no gradient but rounding noise, which Adam would scale up.
    plain, wrapped = base(name).double(), adapted("bitfit", name).double()
    for key, tensor in plain.named_parameters():
        tensor.requires_grad_(key.endswith(".bias") or key.startswith("classifier."))
    train(plain, name)
    merged = train(wrapped, name).merge_and_unload().state_dict()
    start = base(name).double().state_dict()
    assert merged.keys() == start.keys()
    for key, tensor in plain.state_dict().items():
        torch.testing.assert_close(merged[key], tensor, atol=1e-6, rtol=0)
    assert sum(not torch.equal(merged[key], start[key]) for key in start) == sum(
        tensor.requires_grad for tensor in plain.parameters()
    )


# --- the step 0 --------------------------------------------------------------------------------


@every_bitfit
def test_bitfit_starts_as_the_base_model(name: str) -> None:
    assert torch.equal(logits(adapted("bitfit", name), name), logits(base(name), name))


@pytest.mark.parametrize("name", FAMILIES)
def test_houlsby_starts_near_the_identity(name: str) -> None:
    model, std = adapted("houlsby", name), 0.01
    assert len(layers(model, BottleneckLinear)) == FAMILIES[name].n_sublayers
    for layer in layers(model, BottleneckLinear).values():
        h = torch.randn(5, H)
        change = layer._bottleneck("default", h).abs()
        # |W| <= 2 std everywhere and |gelu(z)| <= |z|
        bound = RANK * (2 * std) ** 2 * h.abs().sum(-1, keepdim=True)
        assert (change <= bound).all()
        assert change.max() > 1e-3 * bound.max()
        for projection in (layer.bottleneck_down["default"], layer.bottleneck_up["default"]):
            assert 0.7 * std < projection.weight.std() < 1.1 * std
            assert projection.weight.abs().max() <= 2 * std
            assert not projection.bias.any()
    assert not torch.equal(logits(model, name), logits(base(name), name))
    torch.testing.assert_close(logits(model, name), logits(base(name), name), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_houlsby_is_the_identity_when_the_up_projection_is_zero(name: str) -> None:
    model = adapted("houlsby", name)
    for layer in layers(model, BottleneckLinear).values():
        nn.init.zeros_(layer.bottleneck_up["default"].weight)
    assert torch.equal(logits(model, name), logits(base(name), name))


# --- the equations, in plain tensor code --------------------------------------------------------


def norm(x: Tensor, w: Tensor, b: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w + b


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    weight = layer.weight if isinstance(layer, Conv1D) else layer.weight.T
    return x @ weight + layer.bias


def gelu(z: Tensor) -> Tensor:
    return z * 0.5 * (1 + torch.erf(z / 2**0.5))


def houlsby(layer: BottleneckLinear, h: Tensor, scaling: float) -> Tensor:
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    return h + scaling * (gelu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias)


@pytest.mark.parametrize(
    ("name", "path", "width"),
    [
        ("bert", "bert.encoder.layer.1.output.dense", INNER),
        ("bert", "bert.encoder.layer.1.output.LayerNorm", H),
        ("gpt2", "transformer.h.1.attn.c_attn", H),
        ("gpt2", "transformer.ln_f", H),
    ],
)
def test_bitfit_equation(name: str, path: str, width: int) -> None:
    model = adapted("bitfit", name)
    randomise(model)
    layer = model.get_base_model().get_submodule(path)
    plain, x = layer.base_layer, torch.randn(3, 5, width)
    if isinstance(plain, nn.LayerNorm):
        expected = norm(x, plain.weight, plain.bias, plain.eps)
    else:
        expected = affine(plain, x)
    delta = layer.get_delta("default")
    assert delta.abs().max() > 0.1
    torch.testing.assert_close(layer(x), expected + delta, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_houlsby_equation(name: str, scaling: float) -> None:
    model = adapted("houlsby", name, scaling=scaling)
    randomise(model)
    for layer in layers(model, BottleneckLinear).values():
        plain = layer.base_layer
        x = torch.randn(3, 5, plain.nx if isinstance(plain, Conv1D) else plain.in_features)
        h = x @ plain.weight.T if plain.bias is None else affine(plain, x)
        torch.testing.assert_close(layer(x), houlsby(layer, h, scaling), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("where", ["attention.output", "output"])
def test_houlsby_acts_before_residual_and_layer_norm(where: str) -> None:
    model = adapted("houlsby", "bert")
    randomise(model)
    block = model.get_base_model().bert.encoder.layer[0].get_submodule(where)
    x, residual = torch.randn(2, 5, block.dense.base_layer.in_features), torch.randn(2, 5, H)
    y = houlsby(block.dense, affine(block.dense.base_layer, x), 1.0)
    ln = block.LayerNorm
    expected = norm(y + residual, ln.weight, ln.bias, ln.eps)
    torch.testing.assert_close(block(x, residual), expected, atol=2e-6, rtol=1e-5)


# --- saving, switching, switching off ------------------------------------------------------------


@every_case
def test_a_saved_adapter_gives_the_same_logits(method: str, name: str, tmp_path: Path) -> None:
    model = train(adapted(method, name), name)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(name), tmp_path)
    assert torch.equal(logits(loaded, name), logits(model, name))
    assert not torch.equal(logits(loaded, name), logits(base(name), name))
    assert not trainable(loaded)
    resumed = PeftModel.from_pretrained(base(name), tmp_path, is_trainable=True)
    assert trainable(resumed) == trainable(model)


@pytest.mark.slow
def test_a_fresh_process_needs_one_import_to_load(tmp_path: Path) -> None:
    adapted("bitfit", "bert").save_pretrained(tmp_path / "adapter")
    base("bert").save_pretrained(tmp_path / "base")
    code = f"""
from peft import PeftModel
from transformers import BertForSequenceClassification
model = BertForSequenceClassification.from_pretrained({str(tmp_path / "base")!r})
try:
    PeftModel.from_pretrained(model, {str(tmp_path / "adapter")!r})
except KeyError as error:
    print("before", error)
import peftbench.methods.bitfit
print("after", type(PeftModel.from_pretrained(model, {str(tmp_path / "adapter")!r}).base_model))
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "before 'BITFIT'" in run.stdout
    assert "BitFitTuner" in run.stdout.partition("after")[2]


@every_case
def test_two_adapters_are_switched(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected, n_layers = {"default": logits(model, name)}, len(layers(model, BaseTunerLayer))
    names = set(trainable(model))
    model.add_adapter("second", config(method, name))
    assert len(layers(model, BaseTunerLayer)) == n_layers
    assert set(trainable(model)) == names
    assert torch.equal(logits(model, name), expected["default"])
    model.set_adapter("second")
    assert set(trainable(model)) == {key.replace(".default", ".second") for key in names}
    expected["second"] = logits(train(model, name, lr=1e-3), name)
    assert not torch.equal(expected["second"], expected["default"])
    for adapter in ("default", "second"):
        model.set_adapter(adapter)
        assert torch.equal(logits(model, name), expected[adapter])


@pytest.mark.parametrize("method", ["bitfit", "houlsby", "head_only"])
def test_one_of_two_adapters_is_saved_and_loaded_beside_another(method: str, tmp_path: Path) -> None:
    expected = {}
    for adapter, lr in {"small": 1e-3, "large": 3e-2}.items():
        model = adapted(method, "bert")
        model.add_adapter("second", config(method, "bert"))
        model.set_adapter("second")
        expected[adapter] = logits(train(model, "bert", lr=lr), "bert")
        model.save_pretrained(tmp_path / adapter, selected_adapters=["second"])
    both = PeftModel.from_pretrained(base("bert"), tmp_path / "small" / "second", adapter_name="small")
    both.load_adapter(tmp_path / "large" / "second", adapter_name="large")
    for adapter in ("small", "large", "small"):
        both.set_adapter(adapter)
        assert torch.equal(logits(both, "bert"), expected[adapter])
    assert not torch.equal(expected["small"], expected["large"])


def test_a_second_adapter_may_have_other_targets() -> None:
    model = adapted("bitfit", "bert", target_modules=["query"])
    randomise(model)
    first = logits(model, "bert")
    model.add_adapter("second", config("bitfit", "bert"))
    assert torch.equal(logits(model, "bert"), first)
    model.set_adapter("second")
    n_biases = FAMILIES["bert"].n_biases
    assert sum(n for key, n in trainable(model).items() if "bitfit" in key) == n_biases


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_all_linear_twice(method: str, name: str, tmp_path: Path) -> None:
    model = adapted(method, name, target_modules="all-linear")
    n_layers = len(layers(model, BaseTunerLayer))
    model.add_adapter("second", config(method, name, target_modules="all-linear"))
    assert len(layers(model, BaseTunerLayer)) == n_layers
    model.save_pretrained(tmp_path)
    for folder in (tmp_path, tmp_path / "second"):
        loaded = PeftModel.from_pretrained(base(name), folder)
        assert layers(loaded, BaseTunerLayer).keys() == layers(model, BaseTunerLayer).keys()


@every_case
def test_a_disabled_adapter_leaves_the_base_model(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected = logits(model, name)
    with model.disable_adapter():
        assert torch.equal(logits(model, name), logits(base(name), name))
    assert torch.equal(logits(model, name), expected)


# --- merging -----------------------------------------------------------------------------------


@every_bitfit
def test_bitfit_merges_and_unmerges(name: str) -> None:
    model = train(adapted("bitfit", name), name)
    expected = logits(model, name)
    model.merge_adapter(safe_merge=True)
    merged = [layer.base_layer.bias.clone() for layer in layers(model, BitFitLayer).values()]
    torch.testing.assert_close(logits(model, name), expected, atol=1e-6, rtol=0)
    model.unmerge_adapter()
    assert torch.equal(logits(model, name), expected)
    plain = base(name)
    for (path, layer), bias in zip(layers(model, BitFitLayer).items(), merged, strict=True):
        start = plain.get_submodule(path.removeprefix("base_model.model.")).bias
        assert torch.equal(layer.base_layer.bias, start)
        assert torch.equal(bias, start + layer.get_delta("default"))


@every_bitfit
def test_bitfit_disabled_while_merged_is_the_base_model(name: str) -> None:
    model = train(adapted("bitfit", name, modules_to_save=None), name)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(logits(model, name), logits(base(name), name))


@pytest.mark.parametrize(("method", "name"), [case for case in CASES if case[0] in ("bitfit", "head_only")])
def test_merge_and_unload_gives_a_plain_model(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected = logits(model, name)
    plain = model.merge_and_unload()
    assert type(plain) is type(base(name))
    assert plain.state_dict().keys() == base(name).state_dict().keys()
    torch.testing.assert_close(logits(plain, name), expected, atol=1e-6, rtol=0)


def test_bitfit_merges_two_adapters_and_refuses_nan() -> None:
    model = adapted("bitfit", "bert")
    model.add_adapter("second", config("bitfit", "bert"))
    layer = next(iter(layers(model, BitFitLayer).values()))
    start = layer.base_layer.bias.clone()
    with torch.no_grad():
        layer.get_delta("default").fill_(0.5)
        layer.get_delta("second").fill_(0.25)
    layer.merge(adapter_names=["default", "second"])
    assert torch.equal(layer.base_layer.bias, start + 0.5 + 0.25)
    layer.unmerge()
    with torch.no_grad():
        layer.get_delta("second").fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        layer.merge(safe_merge=True, adapter_names=["second"])
    assert torch.equal(layer.base_layer.bias, start)
    assert not layer.merged


def test_bitfit_merges_into_a_tied_bias() -> None:
    model = get_peft_model(BertForMaskedLM(BertConfig(**ENCODER)), BitFitConfig())
    randomise(model)
    head = model.merge_and_unload().cls.predictions
    assert head.bias.any()
    assert head.bias is head.decoder.bias


def test_houlsby_cannot_be_merged_but_unloaded() -> None:
    model = train(adapted("houlsby", "bert"), "bert")
    expected = logits(model, "bert")
    for attempt in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(NotImplementedError, match="can't be merged"):
            attempt()
    with pytest.raises(NotImplementedError, match="can't be merged"):
        next(iter(layers(model, BottleneckLinear).values())).merge()
    assert torch.equal(logits(model, "bert"), expected)
    assert not layers(model.unload(), BaseTunerLayer)


# --- other precisions, other heads ---------------------------------------------------------------


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_bfloat16_base(method: str, low_memory: bool, tmp_path: Path) -> None:
    model = get_peft_model(base("bert").bfloat16(), config(method, "bert"))
    own = [t for key, t in model.named_parameters() if t.requires_grad and "classifier" not in key]
    assert {tensor.dtype for tensor in own} == {torch.float32}
    train(model, "bert")
    assert logits(model, "bert").dtype == torch.bfloat16
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert").bfloat16(), tmp_path, low_cpu_mem_usage=low_memory)
    assert not trainable(loaded)
    torch.testing.assert_close(logits(loaded, "bert"), logits(model, "bert"), atol=3e-2, rtol=0)


@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_gradient_checkpointing_changes_no_gradient(method: str) -> None:
    plain, model = adapted(method, "bert"), adapted(method, "bert")
    model.load_state_dict(plain.state_dict())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    plain.train()(**batch("bert")).loss.backward()
    model.train()(**batch("bert")).loss.backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-5)


def test_bitfit_leaves_a_head_alone_that_peft_finds_by_its_ending() -> None:
    model = DistilBertForSequenceClassification(DISTILBERT)
    model = get_peft_model(model, BitFitConfig(task_type="SEQ_CLS"))
    assert {"pre_classifier", "classifier"} == {key.rpartition(".")[2] for key in layers(model, ModulesToSaveWrapper)}
    biases = sum(n for key, n in trainable(model).items() if "bitfit" in key)
    assert biases == H + LAYERS * (7 * H + INNER)


def test_houlsby_with_trained_layer_norms(tmp_path: Path) -> None:
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
    model = adapted("houlsby", "bert", modules_to_save=norms)
    usual = sum(trainable(adapted("houlsby", "bert")).values())
    assert sum(trainable(model).values()) == usual + LAYERS * 2 * 2 * H
    train(model, "bert").save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert"), tmp_path)
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_houlsby_trains_the_weights_of_an_activation(tmp_path: Path) -> None:
    model = adapted("houlsby", "bert", non_linearity="prelu")
    usual = sum(trainable(adapted("houlsby", "bert")).values())
    assert sum(trainable(model).values()) == usual + 2 * LAYERS
    train(model, "bert").save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert"), tmp_path)
    assert not trainable(loaded)
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_houlsby_targets_by_regular_expression() -> None:
    model = adapted("houlsby", "bert", target_modules=r".*layer\.\d+\.output\.dense")
    assert len(layers(model, BottleneckLinear)) == LAYERS
    assert not any("attention" in key for key in layers(model, BottleneckLinear))


# --- refusals ------------------------------------------------------------------------------------


class OddLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def odd_bert() -> PreTrainedModel:
    model = base("bert")
    model.bert.encoder.layer[0].output.dense = OddLinear(INNER, H)
    return model


@pytest.mark.parametrize(
    ("build", "wanted", "message"),
    [
        (lambda: base("llama"), BitFitConfig(), "no layer of LlamaModel has a bias"),
        (lambda: base("t5"), BitFitConfig(), "no layer of T5ForConditionalGeneration has a bias"),
        (
            lambda: T5ForSequenceClassification(T5),
            BitFitConfig(task_type="SEQ_CLS"),
            "no layer of T5Model has a bias",
        ),
        (lambda: base("llama"), BitFitConfig(target_modules=["o_proj"]), "o_proj .* has no bias"),
        (odd_bert, BitFitConfig(), "layer.0.output.dense is a OddLinear"),
        (lambda: base("bert"), BitFitConfig(target_modules=[]), r"\[\] match nothing in Bert"),
        (lambda: base("bert"), BottleneckConfig(), "bottleneck: target_modules=None match nothing"),
        (
            lambda: base("bert"),
            BottleneckConfig(target_modules=["output.dense", "o_proj"]),
            r"bottleneck: target_modules=\['o_proj'\] match nothing in BertForSequenceClass",
        ),
        (
            lambda: base("bert"),
            BottleneckConfig(target_modules=".*LayerNorm"),
            "LayerNorm is a LayerNorm, not a Linear or Conv1D",
        ),
        (
            lambda: base("bert"),
            BottleneckConfig(target_modules=["classifier"], modules_to_save=["classifier"]),
            "match nothing",
        ),
        (lambda: base("bert"), HeadOnlyConfig(), "modules_to_save must name the head"),
        (lambda: base("bert"), HeadOnlyConfig(modules_to_save=[]), "must name the head"),
        (lambda: base("gpt2"), HeadOnlyConfig(modules_to_save=["score"]), "match nothing in GPT2"),
    ],
)
def test_refused_on_a_model(build: Callable[[], PreTrainedModel], wanted: PeftConfig, message: str) -> None:
    model = build()
    keys = model.state_dict().keys()
    with pytest.raises(ValueError, match=message) as refusal:
        get_peft_model(model, copy.deepcopy(wanted))
    assert "\n" not in str(refusal.value)
    assert model.state_dict().keys() == keys


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("bottleneck_size", [0, -1, 2.5, "8", True, None]),
        ("non_linearity", ["gelou", "", None]),
        ("init_std", [0, -0.1, float("nan"), float("inf"), "0.1"]),
        ("scaling", [0.0, float("nan"), float("inf"), "1"]),
    ],
)
def test_refused_bottleneck_values(field: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{field} must be [^\n]* not {value!r}$"):
            BottleneckConfig(**{field: value})


def test_a_taken_adapter_type_is_refused() -> None:
    def again(peft_type: str) -> None:
        register(peft_type, config_class=BitFitConfig, tuner_class=BitFitTuner, prefix="bitfit_")

    again("BITFIT")
    with pytest.raises(ValueError, match="'LORA' is taken by LoraConfig"):
        again("LORA")
