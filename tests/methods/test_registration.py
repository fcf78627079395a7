"""Our own tuners in peft's tables: loaded by one import, and refused with one line where they don't fit a model."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import PeftConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    T5ForSequenceClassification,
)

from peftbench.methods.bitfit import BitFitConfig, BitFitTuner
from peftbench.methods.bottleneck import BottleneckConfig
from peftbench.methods.head_only import HeadOnlyConfig
from peftbench.methods.tuners.adapter import register
from tests.helpers.tuner_families import (
    INNER,
    T5,
    H,
    adapted,
    base,
)


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


def test_a_taken_adapter_type_is_refused() -> None:
    def again(peft_type: str) -> None:
        register(peft_type, config_class=BitFitConfig, tuner_class=BitFitTuner, prefix="bitfit_")

    again("BITFIT")
    with pytest.raises(ValueError, match="'LORA' is taken by LoraConfig"):
        again("LORA")
