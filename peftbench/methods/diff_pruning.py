"""Diff pruning: a sparse difference to the pretrained weights is learned by a relaxation of the L0 norm.

Source: Guo, Rush and Kim, "Parameter-Efficient Transfer Learning with Diff Pruning", arXiv 2012.07463, section 3.
First all entries may differ, behind gates that a penalty closes (`diff_gates`). Then only the largest differences are
kept, as many as the target rate says, and trained on with the mask fixed: from there it is a sparse adapter.
"""

from typing import Any

import torch
from lightning.pytorch import Callback
from peft import PeftConfig, PeftModel
from torch import nn

from peftbench import optim
from peftbench.methods.base import Context
from peftbench.methods.diff_gates import DiffLinear
from peftbench.methods.hub import Hub
from peftbench.methods.selective import linears
from peftbench.methods.sparse import SparseConfig, SparseLinear
from peftbench.tasks.base import Batch


@torch.no_grad()
def narrow(model: PeftModel, density: float) -> None:
    """Keeps the share `density` of the largest differences, as the sparse adapter that trains on with this mask."""
    name, base = model.active_adapter, model.get_base_model()
    layers = {n: m for n, m in base.named_modules() if isinstance(m, DiffLinear)}
    found = {n: layer.difference(name, noisy=False) for n, layer in layers.items()}
    size = torch.cat([change.abs() for change in found.values()])
    least = size.topk(max(1, round(density * len(size)))).values[-1]
    counts: dict[str, int] = {}
    for path, layer in layers.items():
        places = (found[path].abs() >= least).nonzero()[:, 0]
        base.set_submodule(path, layer.base_layer if not len(places) else _sparse(layer, name, places, found[path]))
        counts |= {path: len(places)} if len(places) else {}
    old = model.peft_config[name]
    kept = {"modules_to_save": old.modules_to_save, "task_type": old.task_type}
    model.peft_config[name] = SparseConfig(counts=counts, **kept)
    model.peft_config[name].base_model_name_or_path, model.peft_config[name].revision = (
        old.base_model_name_or_path,
        old.revision,
    )


def _sparse(layer: DiffLinear, name: str, places: torch.Tensor, change: torch.Tensor) -> SparseLinear:
    found = SparseLinear(layer.base_layer)
    found.count[name] = len(places)
    found.update_layer(name, None)
    found.choose(name, places)
    found.sparse_values[name].copy_(change[places])
    found.set_adapter(name)
    return found.train(layer.training)


class DiffPruning(Hub):
    """`args`: `density`, the target rate; `penalty`, lambda; `gate_lr`, the gates' rate; `dense`, the share of the run
    before the mask is fixed."""

    _model: Any
    _narrow_at: int

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        config.target_modules = list(linears(model, config))
        self._model = super().inject(model, config, context)
        self._narrow_at = max(1, round(self.config.args["dense"] * context.total_steps))
        return self._model

    def optimizer(self, model: nn.Module, default: Any) -> torch.optim.Optimizer:
        """The gates learn at a rate of their own; the group of the differences is marked for `fix_mask`."""
        own = {part: {id(p) for n, p in model.named_parameters() if part in n} for part in ("diff_weight", "diff_g")}
        groups = optim.at_rate(optim.groups(model), own["diff_g"], self.config.args["gate_lr"])
        for group in groups:
            group["differences"] = any(id(p) in own["diff_weight"] for p in group["params"])
        return default(groups)

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        opened = [m.open_gates(self._model.active_adapter) for m in self._model.modules() if isinstance(m, DiffLinear)]
        return task_loss + self.config.args["penalty"] * torch.stack(opened).sum() if opened else task_loss

    def callbacks(self) -> list[Callback]:
        return [_FixMask(self)]

    def may_select(self, step: int) -> bool:
        """Only what is sparse is scored."""
        return step >= self._narrow_at

    def fix_mask(self, step: int, optimizer: torch.optim.Optimizer | None) -> None:
        """At the end of the first phase: the dense tensors leave the optimiser, the kept values take their place."""
        if step != self._narrow_at:
            return
        narrow(self._model, self.config.args["density"])
        alive = {id(p): p for p in self._model.parameters() if p.requires_grad}
        for group in optimizer.param_groups if optimizer else []:
            kept = [p for p in group["params"] if id(p) in alive]
            for gone in set(group["params"]) - set(kept):
                optimizer.state.pop(gone, None)
            group["params"] = kept
        known = {id(p) for group in (optimizer.param_groups if optimizer else []) for p in group["params"]}
        for group in optimizer.param_groups if optimizer else []:
            if group["differences"]:
                group["params"] += [p for key, p in alive.items() if key not in known]


class _FixMask(Callback):
    def __init__(self, method: DiffPruning) -> None:
        self._method = method

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._method.fix_mask(trainer.global_step, next(iter(getattr(trainer, "optimizers", [])), None))
