"""Knowledge distillation: a smaller model is trained on labels and on a teacher's answers.

Source: Hinton et al., arXiv 1503.02531, section 2. With logits v of the teacher and z of the student, (n, labels):
loss = alpha T^2 KL(softmax(v / T) || softmax(z / T)) + (1 - alpha) CE(z, labels), both terms means over the n examples.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from peftbench.config import formulations
from peftbench.config.rules import between
from peftbench.config.types import MethodConfig, RunConfig
from peftbench.data.batch import Batch
from peftbench.errors import ConfigError
from peftbench.methods import teacher
from peftbench.methods.base import Context
from peftbench.methods.full import Full
from peftbench.models import layers
from peftbench.tasks.base import Task


class Distillation(Full):
    """`inputs.teacher`: a finished run's record or a checkpoint's folder. `args`: `alpha` and `temperature` T; `keep`,
    the share of the model's layers that the student has, at even distances from the first (the student can also be a
    smaller `model`). With alpha 0 there is no teacher: the same student, trained on labels alone.
    """

    arguments: ClassVar = {
        "keep": between(0, 1, above=True),
        "alpha": between(0, 1),
        "temperature": between(0, above=True),
    }

    _task: Task
    _teacher: teacher.Teacher | None = None

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self._alpha, self._temperature = config.args["alpha"], config.args["temperature"]

    def refusal(self, config: RunConfig) -> str | None:
        if config.dataset.task == "regression" or formulations.formulation(config) == "text":
            return "needs a task that scores labels or choices"
        if self._alpha and self.config.inputs["teacher"] is None:
            return "needs method.inputs.teacher=<a finished run's record, or a checkpoint's folder>"
        return super().refusal(config)

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Raises NotApplicable if the teacher answers another question, or reads other tokens."""
        path, self._task = self.config.inputs["teacher"], context.task
        if self._alpha:
            if path is None:
                raise ConfigError("method.inputs.teacher: is required where method.args.alpha is above 0")
            self._teacher = teacher.load(path, context)
        share, sizes = self.config.args["keep"], {name: len(stack) for name, stack in layers.stacks(model).items()}
        layers.keep(model, {name: layers.spread(size, layers.share(size, share)) for name, size in sizes.items()})
        return super().apply(model, context)

    def loss(self, task_loss: torch.Tensor, outputs: object, batch: Batch) -> torch.Tensor:
        if self._teacher is None:
            return task_loss
        t = self._temperature
        student = self._task.predictions(outputs, batch)
        q, p = (F.log_softmax(logits / t, dim=1) for logits in (student, self._teacher.predictions(batch)))
        # Examples with fewer choices than others have logits of -inf, which weigh nothing.
        divergence = torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum(dim=1).mean()
        loss: torch.Tensor = self._alpha * t**2 * divergence + (1 - self._alpha) * task_loss
        return loss
