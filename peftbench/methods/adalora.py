"""AdaLoRA: the rank of every weight's update is decided while training.

Source: Zhang et al., arXiv 2303.10512. Equation 3: W = W0 + P L Q, P: (out, r), L: (r,), Q: (r, in); equation 4: the
regulariser ||P'P - I||^2 + ||QQ' - I||^2 (peft takes the norm, not its square); section 3.3: the budget's schedule.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.data.batch import Batch
from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.hub import Hub
from peftbench.methods.tuners import peft_compat


class AdaLora(Hub):
    """`args`: `initial` and `final`, the shares of the run before the budget falls and after it has fallen;
    `interval`, the steps between reallocations."""

    _model: Any  # The adapted model.

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        """Raises ConfigError if the shares leave no step for the budget to fall in."""
        shares = self.config.args
        total = max(context.total_steps, 1)
        initial, final = int(shares["initial"] * total), int(shares["final"] * total)
        if shares["initial"] + shares["final"] >= 1:
            raise ConfigError("method.args: initial + final must be below 1")
        interval = max(1, min(shares["interval"], (total - initial - final) // 4))
        return {"total_step": total, "tinit": initial, "tfinal": final, "deltaT": interval}

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        self._model = super().apply(model, context)
        return self._model

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        """Equation 4, as peft weighs it: the mean over all P and Q. peft adds it to `outputs.loss` only."""
        weight = self._model.active_peft_config.orth_reg_weight
        norms = []
        for name, p in self._model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = p @ p.T if "lora_A" in name else p.T @ p
                norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=p.device)))
        return task_loss + weight * torch.stack(norms).mean()

    def save(self, model: nn.Module, folder: Path) -> None:
        """Saves at the initial rank, cut singular values and all: peft would cut by the last step's pattern, which
        isn't that of the step that was selected."""
        config: Any = model.active_peft_config
        pattern, config.rank_pattern = config.rank_pattern, None
        super().save(model, folder)
        config.rank_pattern = pattern

    def callbacks(self) -> list[Callback]:
        return [_Reallocate(self)]

    def state_dict(self) -> dict[str, Any]:
        """Sensitivities so far and, once it is final, which singular values are left."""
        averages = peft_compat.rank_averages(self._model.base_model)
        return {**averages, "rank_pattern": self._model.active_peft_config.rank_pattern}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        peft_compat.put_rank_averages(self._model.base_model, state, next(self._model.parameters()).device)
        self._model.active_peft_config.rank_pattern = state["rank_pattern"]

    def reallocate(self, step: int) -> None:
        """Section 3.2: sensitivity from the last gradients, then the masks of the singular values."""
        self._model.base_model.update_and_allocate(step)


class _Reallocate(Callback):
    def __init__(self, method: AdaLora) -> None:
        self._method = method

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        # The gradients are still there: they are cleared when the next step starts.
        self._method.reallocate(trainer.global_step)
