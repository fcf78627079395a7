"""Prompts and prefixes that a network makes while they are trained, in the form that is saved and used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import nn


@contextmanager
def made(model: PeftModel) -> Iterator[None]:
    """Replaces the active prompt, while entered, by the vectors that its network makes, computed once; the network is
    gone.

    So Li and Liang, arXiv 2101.00190, section 4.3: "once training is complete, these reparametrization parameters can
    be dropped". peft computes them at every call of a model that was trained, for a prefix once a row of the batch; of
    one that was loaded it has the vectors alone. A model without virtual tokens stays as it is, and so does one whose
    prompt depends on the input's task.
    """
    config: Any = model.active_peft_config
    if not config.is_prompt_learning or config.peft_type == PeftType.MULTITASK_PROMPT_TUNING or config.inference_mode:
        yield
        return
    name = model.active_adapter
    network: Any = model.prompt_encoder[name]
    with torch.no_grad():
        vectors = model.get_prompt_embedding_to_save(name).to(network.embedding.weight.device)
    fixed = nn.Module()
    fixed.embedding = nn.Embedding.from_pretrained(vectors)
    model.prompt_encoder[name] = fixed
    # peft's name for "the embedding is the prompt".
    config.inference_mode = True
    try:
        yield
    finally:
        model.prompt_encoder[name], config.inference_mode = network, False
