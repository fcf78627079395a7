"""P-tuning with prompt tokens at several places: what its tuner (`slots`) doesn't decide."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftbench.methods.base import Context
from peftbench.methods.hub import Hub
from peftbench.methods.rewrite import rewrite
from peftbench.methods.slots import SlotsConfig, SlotsEmbedding


class Slots(Hub):
    """Saved as the prompt vectors alone: LSTM and MLP are thrown away."""

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        family = context.model.family
        mask = getattr(context.tokenizer, "mask_token_id", None) if family == "encoder" else None
        return {"family": family, "mask_token_id": mask}

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        name, layer = next((n, m) for n, m in model.named_modules() if isinstance(m, SlotsEmbedding))
        with torch.no_grad():
            prompt = layer.prompt(model.active_adapter)
        rewrite(folder, drop="slots_", add={f"{name}.slots_rows": prompt}, kind=SlotsConfig, config={"encoded": False})
