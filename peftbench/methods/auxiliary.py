"""Methods of peft whose paper adds terms to the loss. peft leaves adding them to the training loop."""

from typing import Any

import torch
from torch import nn

from peftbench.data.batch import Batch
from peftbench.methods.base import Context
from peftbench.methods.hub import Hub
from peftbench.methods.tuners import peft_compat


class _WithTuner(Hub):
    """Remembers the tuner that `apply` has put on the model, and the task's formulation, for `loss`."""

    _tuner: Any
    _formulation: str

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        adapted = super().apply(model, context)
        self._tuner, self._formulation = adapted.base_model, context.task.formulation
        return adapted


class Kasa(_WithTuner):
    """KaSA: singular values are kept small and factors orthonormal. Source: Wang et al., arXiv 2412.06071, equations 9
    to 12; the weights are `method.adapter.kasa_config`'s beta and gamma."""

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        return task_loss + peft_compat.kasa_loss(self._tuner)


class Shadow(_WithTuner):
    """ShadowPEFT: the small network's own prediction is trained too. Source: arXiv 2604.19254, equations 8 and 9.

    With a head over classes only: a scored label word has no token labels, which peft's term wants of a language model.
    """

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        weight = self._tuner.peft_config["default"].auxiliary_loss_weight
        labels = batch["labels"]
        if not weight or self._formulation != "head" or "sequences" in batch or labels.is_floating_point():
            return task_loss
        shadow_loss = self._tuner.shadow_auxiliary_loss(labels, attention_mask=batch["attention_mask"])
        return task_loss if shadow_loss is None else task_loss + weight * shadow_loss
