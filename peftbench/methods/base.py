"""`Method`: what a way of training may decide. Each decision has a default, so that a method states its own alone.

A class that a configuration names by dotted path neither moves nor changes its name. The paths `method.target` (here),
`method.adapter._target_` (a peft configuration, ours among them) and `dataset.generator` (`data/demo.py`) are part of a
run's key: under another path every recorded run of the method would be a run that nobody has made, and saved adapters
would lose the module that registers them. `tests/results/test_contract.py` keeps this for published records.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.config.types import MethodConfig, ModelConfig, RunConfig
from peftbench.data.batch import Arguments, Batch
from peftbench.models import parameters
from peftbench.models.parameters import MakeOptimizer
from peftbench.tasks.base import Task


@dataclass(frozen=True)
class Context:
    """The context of a method: what it may look at when it is applied.

    Attributes:
        model: names of the model's parts; `task`: what is solved.
        total_steps: optimiser steps of the whole run (AdaLoRA plans with it).
        seed: the run's seed.
        batches: gives all training examples once through, in a fixed order (EVA and CorDA look at data first); nothing
            where a method is only tried on a model without weights.
        tokenizer: the model's.
        model_root: where checkpoints are, for a method that needs another model.
    """

    model: ModelConfig
    task: Task
    total_steps: int
    seed: int
    batches: Callable[[], Iterable[Batch]]
    tokenizer: Any = None
    model_root: str | None = None


class Method:
    """A way of training a model. The base class is a method that changes nothing about the loop."""

    #: Whether anything is trained at all; a baseline says False.
    trains = True

    def __init__(self, config: MethodConfig) -> None:
        """Raises ConfigError for arguments that no adapter of this kind has."""
        self.config = config

    def refusal(self, config: RunConfig) -> str | None:
        """Says why this method can't be used in a run; None: it can. Called before weights are loaded."""
        model = config.model
        if model.family not in self.config.supports:
            return f"supports {', '.join(self.config.supports)}; {model.name} is of the family {model.family}"
        if model.dtype is not None and self.config.quantization:
            return f"has packed weights, so model.dtype={model.dtype} has nothing to round; allowed is null"
        if config.hardware.gradient_checkpointing and self.config.checkpointing is False:
            return "doesn't work with hardware.gradient_checkpointing=true"
        if config.hardware.strategy == "fsdp":
            if self.config.sharding is False:
                return "needs whole weights while it trains, which hardware.strategy=fsdp shares out"
            if self.config.quantization:
                return "has packed weights, which hardware.strategy=fsdp can't share out"
        return None

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Returns the model to train, with `requires_grad` set on exactly what is trained."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        """Builds the optimiser; `default` builds the recipe's from parameter groups (`models.parameters.groups`)."""
        return default(parameters.groups(model))

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        """The loss that is minimised, a scalar. What is reported is always `task_loss`."""
        return task_loss

    def prepare_batch(self, batch: Arguments) -> Arguments:
        """Turns the arguments that the task gives the model into those that the model is called with."""
        return batch

    def callbacks(self) -> list[Callback]:
        """Callbacks for the Lightning trainer."""
        return []

    def needs_mask(self, model: nn.Module) -> bool:
        """True if the adapted model reads `attention_mask` where padding stands behind a text and no position looks at
        a later one: to count a text's tokens, or to put something before or into it."""
        # int8 looks for outliers at all positions, and padding has other values there without a mask.
        return bool((self.config.quantization or {}).get("load_in_8bit"))

    def needs_answer_places(self, model: nn.Module) -> bool:
        """True if the adapted model is called with `answer_places` where answers are texts: to put something before
        them."""
        return False

    def needs_all_positions(self, model: nn.Module) -> bool:
        """True if the adapted model's last layer must be computed at every position though its task head reads one
        (`models.one_position`): where the method looks at shapes, or at other positions outside attention."""
        # int8 looks for outliers in a column of all positions: Dettmers et al., arXiv 2208.07339, section 3.2.
        return bool((self.config.quantization or {}).get("load_in_8bit"))

    def reads_weights(self, model: nn.Module) -> bool:
        """True if something reads a frozen weight of a linear layer other than that layer's own matrix product: rounded
        once (`model.dtype`), such a weight would change the results."""
        return False

    def cycle(self) -> int:
        """The optimiser steps after which all that is trained has been updated (LISA trains some layers at a time)."""
        return 1

    def may_select(self, step: int) -> bool:
        """True if the weights after this optimiser step may be scored (not while a model still shrinks)."""
        return True

    def at_the_end(self, model: nn.Module) -> nn.Module:
        """The adapted model as it is after a run that changes what it consists of; for counts, without training."""
        return model

    def describe(self, model: nn.Module, tokenizer: Any) -> dict[str, Any]:
        """Describes what was trained, as JSON values by name, for the record (`learnt`)."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State for a resume, besides weights, buffers and the optimiser's: tensors, numbers, text, and lists and dicts
        of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave. Called after the optimiser is built, before its state and the weights are
        restored."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes what was trained to `folder`; the method's own library can load it onto a fresh base."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def merge(self, model: nn.Module) -> nn.Module | None:
        """Returns a plain copy of the model with the method folded into its weights; None where that isn't possible."""
        return None

    def deployed(self, model: nn.Module) -> AbstractContextManager[None]:
        """Puts the model, while entered, into the form that is saved and that inference speed is measured on: it
        answers as before, without the parts that only training needs. Left, it can be trained again."""
        return nullcontext()
