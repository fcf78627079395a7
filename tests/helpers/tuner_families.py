"""Tiny random models of five families and our own adapters on them, with what training and saving them takes."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D

from peftbench.methods.bitfit import BitFitConfig
from peftbench.methods.bottleneck import BottleneckConfig
from peftbench.methods.head_only import HeadOnlyConfig

H, INNER, LAYERS, VOCAB, RANK, LABELS = 32, 64, 2, 60, 4, 3

ENCODER: dict[str, Any] = {
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


_t5: Any = T5Config  # It takes more than its signature shows.
T5 = _t5(
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

_distilbert: Any = DistilBertConfig
DISTILBERT = _distilbert(
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


def config(method: str, name: str, **changes: Any) -> PeftConfig:
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


def norm(x: Tensor, w: Tensor, b: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w + b


def affine(layer: Any, x: Tensor) -> Tensor:
    weight = layer.weight if isinstance(layer, Conv1D) else layer.weight.T
    return x @ weight + layer.bias
