"""Trained weights are as many as the papers' formulas say, on a tiny model and on RoBERTa-base's shape."""

import pytest
from built import Built

from peftbench import artefacts, backbones, compose, tasks
from peftbench.methods.base import Context
from peftbench.methods.build import build

D, L, F = 64, 2, 128  # tiny_bert: width, layers, intermediate width.
#: Trained weights outside the head by the paper's formula, with the values in the method's file.
CLOSED_FORMS = {
    "linear_probe": 0,
    "bitfit": D + L * (7 * D + F) + D,  # Embeddings' norm; q, k, v, o, two norms, two linear layers; pooler.
    "lora": 2 * L * 2 * D * 8,  # arXiv 2106.09685, section 5.1: 2 * L * d * r.
    "dora": 2 * L * (2 * D * 8 + D),  # arXiv 2402.09353, equation 5: LoRA's and a magnitude a column.
    "lora_fa": 2 * L * 2 * D * 8,  # Until its optimiser freezes A.
    "vera": 2 * L * (D + 1024),  # arXiv 2310.11454, section 3.3: L * (d + r).
    "ia3": L * (2 * D + F),  # arXiv 2205.05638, section 3.3: keys, values, feed-forward activations.
    "prompt": 20 * D,  # arXiv 2104.08691, section 2: p * e.
    "p_tuning_v2": 20 * 2 * L * D,  # arXiv 2110.07602, section 3: keys and values of every layer.
    "houlsby": 2 * L * (2 * D * 64 + 64 + D),  # arXiv 1902.00751, section 2.1: 2md + d + m.
    "fourierft": 2 * L * 1000,  # arXiv 2405.03003, section 3.2: n * L.
    "ln_tuning": (2 * L + 1) * 2 * D,
}


@pytest.mark.parametrize("method", CLOSED_FORMS)
def test_trained_weights_are_as_many_as_the_paper_says(cell, method: str) -> None:
    case = Built(cell(f"method={method}", "model=tiny_bert"))
    assert artefacts.count(case.model, case.config.model.head)["adapter"] == CLOSED_FORMS[method]


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
