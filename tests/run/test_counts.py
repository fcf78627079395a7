"""Trained weights are as many as the papers' formulas say, on a tiny model and on RoBERTa-base's shape."""

import pytest

from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import backbones, parameters
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built
from tests.helpers.composed import composed

D, L, F = 64, 2, 128  # tiny_bert: width, layers, intermediate width.
LINEAR = L * (4 * (D * D + D) + 2 * D * F + F + D)  # Weights and biases of the layers' six linear modules.
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
    # arXiv 2005.00247 and 2110.04366: one bottleneck a layer, behind or beside the feed-forward block.
    "pfeiffer": L * (2 * D * 48 + 48 + D),
    "parallel": L * (2 * D * 64 + 64 + D),
    "compacter": 2 * L * (2 * (D + 24) + 24 + D) + 4**3,  # arXiv 2106.04647, section 4: rank one, A shared by all.
    "mam": L * (2 * 16 * D + 2 * D * 64 + 64 + D),  # arXiv 2110.04366: prefixes and parallel adapters.
    # arXiv 2110.07577: prefixes, LoRA on two matrices, an adapter, and four gates a layer.
    "unipelt": L * (2 * 10 * D + 2 * 2 * D * 8 + 2 * D * 48 + 48 + D + 4 * (D + 1)),
    "fish_mask": round(0.005 * LINEAR),
    "sam_selection": round(0.005 * LINEAR),
    "last_layers": LINEAR // L + 4 * D,  # One layer: its linear modules and two norms.
    # arXiv 2305.16742: two projections and a bias for each changed bias, or matrix of so long rows.
    "hiwi": L * (2 * (F + D) * 64 + 2 * 64),
    "hiwi_weight": L * (2 * (D + F) * 4 + 2 * 4),
    "loreft": L * (2 * D * 4 + 4),  # arXiv 2404.03592, equation 2: R, W and b.
    "diff_pruning": 2 * LINEAR + 2 * 6 * L,  # arXiv 2012.07463: differences, gates and groups, until the mask is fixed.
    # arXiv 2103.10385, section 3: rows, a two-way LSTM of half the width, an MLP; 20 * D of it are kept.
    "p_tuning_template": 20 * D + 6 * D**2 + 8 * D + 2 * (D**2 + D),
    "fourierft": 2 * L * 1000,  # arXiv 2405.03003, section 3.2: n * L.
    "ln_tuning": (2 * L + 1) * 2 * D,
}


@pytest.mark.parametrize("method", CLOSED_FORMS)
def test_trained_weights_are_as_many_as_the_paper_says(cell, method: str) -> None:
    case = Built(cell(f"method={method}", "model=tiny_bert"))
    assert parameters.count(case.model, case.config.model.head)["adapter"] == CLOSED_FORMS[method]


def test_lora_counts_on_roberta_base_are_the_papers() -> None:
    """294,912 without the head (arXiv 2106.09685, Table 2 prints 0.3M) and 887,042 with it."""
    from transformers import RobertaConfig

    from peftbench.models.checkpoints import Checkpoint

    config = composed(["model=roberta_base", "method=lora", "dataset=rte"])
    task = build_task(config)
    config.model.config = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1} | {
        "model_type": RobertaConfig.model_type
    }
    empty = backbones.build_empty(config.model, Checkpoint(None, ""), task)
    context = Context(config.model, task, 1, 0, list)
    counts = parameters.count(build(config.method).apply(empty, context), config.model.head)
    assert counts["adapter"] == 294_912
    assert counts["trainable"] == 887_042
    assert counts["total"] == 125_237_762 - 590_592 + 294_912 + 590_592 - 590_592
