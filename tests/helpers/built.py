"""`Built`: a method applied to a tiny model, with data to train it on, for the tests of methods."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import PeftModel

from peftbench.data.batch import Batch
from peftbench.data.datamodule import TaskDataModule
from peftbench.errors import NotApplicable
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import backbones, parameters
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.optimizer import factory
from peftbench.run.training.tuner import FineTuner
from peftbench.tasks.table import build as build_task


def checkpoint(prepared: PreparedRun, folder: Path) -> Path:
    """An untrained model and its tokenizer, saved as a checkpoint: what a method may ask for beside its base."""
    task = build_task(prepared.config)
    model: Any = backbones.load_model(prepared.config, prepared.checkpoint, task)
    model.save_pretrained(folder)
    backbones.load_tokenizer(prepared.config.model, prepared.checkpoint).save_pretrained(folder)
    return folder


def adapter(prepared: PreparedRun, folder: Path, *, seed: int) -> Path:
    """An adapter of a run's method, moved off its start and saved."""
    case = Built(prepared)
    shake(case.model, seed=seed)
    case.method.save(case.model, folder)
    return folder


@torch.no_grad()
def shake(model: torch.nn.Module, *, seed: int, scale: float = 0.05) -> None:
    """Add normal noise to all trained parameters."""
    draw = torch.Generator().manual_seed(seed)
    for tensor in model.parameters():
        if tensor.requires_grad:
            tensor.add_(scale * torch.randn(tensor.shape, generator=draw))


class Built:
    """A run's method, applied to its model. Raises NotApplicable where that can't be done."""

    def __init__(self, prepared: PreparedRun) -> None:
        self.config, self.cell = prepared.config, prepared
        torch.manual_seed(0)
        self.task = build_task(self.config)
        tokenizer = backbones.load_tokenizer(self.config.model, prepared.checkpoint)
        cache = ResultStore(self.config.results_dir).cache
        self.data = TaskDataModule(
            self.config, self.task, tokenizer, source=prepared.source, tokenizer_fingerprint="t", cache=cache
        )
        self.data.setup()
        self.batch = self.data.train.collate(range(min(16, len(self.data.train))))
        self.method = build(self.config.method)
        refusal = self.method.refusal(self.config)
        if refusal is not None:
            raise NotApplicable(refusal)
        self.context = Context(
            self.config.model, self.task, 100, 0, self.data.train_once, tokenizer, self.config.model_root
        )
        self.model = self.method.apply(self.fresh_base(), self.context)
        self.tuner = FineTuner(
            self.model,
            task=self.task,
            method=self.method,
            recipe=self.config.recipe,
            micro_batch_size=None,
            total_steps=100,
        )

    def fresh_base(self) -> torch.nn.Module:
        torch.manual_seed(3)
        return backbones.load_model(self.config, self.cell.checkpoint, self.task)

    def logits(self, model: Any = None, batch: Batch | None = None) -> torch.Tensor:
        """The scores that answers are decided from, (n, labels)."""
        model = (self.model if model is None else model).eval()
        batch = self.batch if batch is None else batch
        with torch.no_grad():
            plain = self.task.inputs(batch) if not isinstance(model, PeftModel) else self.tuner.inputs(batch)
            return self.task.predictions(model(**plain), batch)

    def loss(self) -> float:
        return torch.nn.functional.cross_entropy(self.logits(), self.batch["labels"]).item()

    def in_head(self, name: str) -> bool:
        return self.task.formulation == "head" and parameters.in_head(name, self.config.model.head)

    def train(self, steps: int, *, head: bool = True) -> list[float]:
        """Steps on the one batch at the method's own rate; `head=False` keeps the task head as it is."""
        assert self.config.method.lr is not None, "a method that trains nothing"
        optimizer = self.method.optimizer(self.model, factory(self.config.recipe, self.config.method.lr))
        frozen = [p for name, p in self.model.named_parameters() if p.requires_grad and self.in_head(name) and not head]
        losses = []
        nobody: Any = None  # The module: no callback of a method looks at it.
        self.model.train()
        for step in range(1, steps + 1):
            before: Any = SimpleNamespace(global_step=step - 1)
            for callback in self.method.callbacks():
                callback.on_train_batch_start(before, nobody, None, 0)
            optimizer.zero_grad()
            outputs = self.tuner(self.batch)
            loss = self.task.losses(outputs, self.batch).mean()
            self.method.loss(loss, outputs, self.batch).backward()
            for p in frozen:
                p.grad = None
            optimizer.step()
            after: Any = SimpleNamespace(global_step=step)
            for callback in self.method.callbacks():
                callback.on_train_batch_end(after, nobody, None, None, 0)
            losses.append(loss.item())
        return losses
