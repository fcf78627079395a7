"""Diff pruning: a sparse difference to the pretrained weights is learned by a relaxation of the L0 norm.

Source: Guo, Rush and Kim, "Parameter-Efficient Transfer Learning with Diff Pruning", arXiv 2012.07463, section 3.
First all entries may differ, behind gates that a penalty closes (`diff_gates`). Then only the largest differences are
kept, as many as the target rate says, and trained on with the mask fixed: from there it is a sparse adapter.
"""

from typing import Any

import torch
from lightning.pytorch import Callback
from peft import PeftModel
from torch import nn

from peftbench.data.batch import Batch
from peftbench.methods.base import Context
from peftbench.methods.diff_gates import DiffLinear
from peftbench.methods.hub import Hub
from peftbench.methods.selective import linears, tensors
from peftbench.methods.sparse import SparseConfig, SparseLinear
from peftbench.models import parameters


@torch.no_grad()
def largest(model: PeftModel, density: float) -> dict[str, torch.Tensor]:
    """Finds the largest differences of all, a share `density`: layer name -> their places in the layer."""
    name, base = model.active_adapter, model.get_base_model()
    differences = {
        path: layer.difference(name, noisy=False).abs()
        for path, layer in base.named_modules()
        if isinstance(layer, DiffLinear)
    }
    sizes = torch.cat(list(differences.values()))
    least = sizes.topk(max(1, round(density * len(sizes)))).values[-1]
    return {path: (size >= least).nonzero()[:, 0] for path, size in differences.items()}


@torch.no_grad()
def narrow(model: PeftModel, places: dict[str, torch.Tensor]) -> None:
    """Turns the adapter into the sparse one that keeps the differences at these places and trains on with this mask."""
    name, base = model.active_adapter, model.get_base_model()
    for path, indices in places.items():
        layer: Any = base.get_submodule(path)
        base.set_submodule(path, _sparse(layer, name, indices) if len(indices) else layer.base_layer)
    old: Any = model.peft_config[name]
    counts = {path: len(indices) for path, indices in places.items() if len(indices)}
    new = SparseConfig(counts=counts, modules_to_save=old.modules_to_save, task_type=old.task_type)
    new.base_model_name_or_path, new.revision = old.base_model_name_or_path, old.revision
    model.peft_config[name] = new


def _sparse(layer: DiffLinear, name: str, places: torch.Tensor) -> SparseLinear:
    sparse = SparseLinear(layer.base_layer)
    sparse.count[name] = len(places)
    sparse.update_layer(name, None)
    sparse.choose(name, places)
    sparse.sparse_values[name].copy_(layer.difference(name, noisy=False)[places])
    sparse.set_adapter(name)
    return sparse.train(layer.training)


class DiffPruning(Hub):
    """`args`: `density`, the target rate; `penalty`, lambda; `gate_lr`, the gates' rate; `dense`, the share of the run
    before the mask is fixed."""

    _model: Any
    _narrow_at: int
    _optimizer: torch.optim.Optimizer

    def inject(self, model: nn.Module, config: Any, context: Context) -> PeftModel:
        config.target_modules = list(linears(model, config))
        self._model = super().inject(model, config, context)
        self._counts: dict[str, int] = {}
        self._narrow_at = max(1, round(self.config.args["dense"] * context.total_steps))
        return self._model

    def optimizer(self, model: nn.Module, default: Any) -> torch.optim.Optimizer:
        """The gates learn at a rate of their own; the group of the differences is marked for `fix_mask`."""
        marked = {part: {id(p) for n, p in model.named_parameters() if part in n} for part in ("diff_weight", "diff_g")}
        groups = parameters.at_rate(parameters.groups(model), marked["diff_g"], self.config.args["gate_lr"])
        for group in groups:
            group["differences"] = any(id(p) in marked["diff_weight"] for p in group["params"])
        self._optimizer = default(groups)
        return self._optimizer

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        opened = [m.open_gates(self._model.active_adapter) for m in self._model.modules() if isinstance(m, DiffLinear)]
        return task_loss + self.config.args["penalty"] * torch.stack(opened).sum() if opened else task_loss

    def callbacks(self) -> list[Callback]:
        return [_FixMask(self)]

    def may_select(self, step: int) -> bool:
        """True once the differences are sparse: only then is a step scored."""
        return step >= self._narrow_at

    def at_the_end(self, model: Any) -> Any:
        """The differences that are left are spread evenly: where they would be is not known without training."""
        share = self.config.args["density"]
        gated = {path: m for path, m in model.get_base_model().named_modules() if isinstance(m, DiffLinear)}
        sizes = {path: sum(t.numel() for t in tensors(layer)) for path, layer in gated.items()}
        narrow(model, {path: torch.arange(max(1, round(share * size))) for path, size in sizes.items()})
        return model

    def fix_mask(self, step: int) -> None:
        """Takes the dense tensors out of the optimiser at the end of the first phase, and puts the kept values in their
        place."""
        if step == self._narrow_at:
            self._narrow(largest(self._model, self.config.args["density"]))

    def _narrow(self, places: dict[str, torch.Tensor]) -> None:
        narrow(self._model, places)
        self._counts = {path: len(indices) for path, indices in places.items()}
        alive = {id(p): p for p in self._model.parameters() if p.requires_grad}
        groups = self._optimizer.param_groups
        for group in groups:
            for gone in [p for p in group["params"] if id(p) not in alive]:
                self._optimizer.state.pop(gone, None)
            group["params"] = [p for p in group["params"] if id(p) in alive]
        grouped = {id(p) for group in groups for p in group["params"]}
        holder = next(group for group in groups if group["differences"])
        holder["params"] += [p for key, p in alive.items() if key not in grouped]

    def state_dict(self) -> dict[str, Any]:
        """`counts`: the entries that a layer keeps once the mask is fixed; their places are in the layers' buffers."""
        return {"counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["counts"]:
            self._narrow({path: torch.arange(count) for path, count in state["counts"].items()})


class _FixMask(Callback):
    def __init__(self, method: DiffPruning) -> None:
        self._method = method

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._method.fix_mask(trainer.global_step)
