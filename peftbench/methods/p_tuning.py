"""P-tuning with prompt tokens at several places: what its tuner (`slots`) doesn't decide."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftbench.config.types import RunConfig
from peftbench.methods.base import Context
from peftbench.methods.hub import Hub
from peftbench.methods.nearest_tokens import nearest_tokens
from peftbench.methods.slots import SlotsConfig, SlotsEmbedding
from peftbench.methods.tuners.attribute import attribute
from peftbench.methods.tuners.rewrite import rewrite


class Slots(Hub):
    """Saved as the prompt vectors alone: LSTM and MLP are thrown away."""

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        family = context.model.family
        mask = getattr(context.tokenizer, "mask_token_id", None) if family == "encoder" else None
        return {"family": family, "mask_token_id": mask}

    def refusal(self, config: RunConfig) -> str | None:
        usual = super().refusal(config)
        if usual is None and config.recipe.loss_on == "all":
            return "puts vectors between question and answer, where recipe.loss_on=all has a text learnt as one"
        return usual

    def needs_answer_places(self, model: nn.Module) -> bool:
        return True

    def describe(self, model: nn.Module, tokenizer: Any) -> dict[str, Any]:
        """`soft_prompt`: of every prompt token, those in front first, the nearest real ones."""
        layer: Any = _embedding(model)[1]
        with torch.no_grad():
            prompt = layer.prompt(model.active_adapter)
            return {"soft_prompt": nearest_tokens(prompt, layer.weight, tokenizer)}

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        name, layer = _embedding(model)
        with torch.no_grad():
            prompt = layer.prompt(attribute(model, "active_adapter", str))
        rewrite(folder, drop="slots_", add={f"{name}.slots_rows": prompt}, kind=SlotsConfig, config={"encoded": False})


def _embedding(model: nn.Module) -> tuple[str, SlotsEmbedding]:
    return next((n, m) for n, m in model.named_modules() if isinstance(m, SlotsEmbedding))
