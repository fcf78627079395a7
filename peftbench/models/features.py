"""What a model's frozen lower layers make of each training example, computed once for all epochs.

Frozen layers without dropout give an example the same hidden states whenever it comes. These are kept by the example's
tokens, without padding, and put where the last frozen layer would give them; the layers below aren't computed. The
embeddings are, which cost little: widths, masks and positions then come from the model itself.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftbench.data.batch import Batch
from peftbench.errors import ConfigError, NotApplicable
from peftbench.models import layers
from peftbench.models.parameters import in_head

#: The arguments of a model that decide an example's hidden states; with others nothing is looked up.
_DECIDING, _OTHERS = ("input_ids", "attention_mask", "token_type_ids"), ("labels", "use_cache", "logits_to_keep")


class _Enough(Exception):
    """The last frozen layer has answered: what is above it needn't be computed."""


def frozen_layers(model: nn.Module, head: Sequence[str]) -> list[nn.Module]:
    """The layers below the first one that is trained, at least one.

    Args:
        head: names of the task head's modules, which may be trained.

    Raises:
        NotApplicable: there is no such layer, or something else below the trained layers is trained as well.
    """
    stacks = layers.stacks(model)
    if len(stacks) != 1:
        raise NotApplicable(f"method.args.cache_features: {type(model).__name__} has {len(stacks)} stacks of layers")
    ((name, stack),) = stacks.items()
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in stack]
    count = trained.index(True) if True in trained else len(trained)
    inside = [f"{name}.{i}." for i in range(count, len(stack))]
    for parameter, p in model.named_parameters():
        if p.requires_grad and not parameter.startswith(tuple(inside)) and not in_head(parameter, head):
            raise NotApplicable(f"method.args.cache_features: {parameter} is trained, which isn't above frozen layers")
    if not count:
        raise NotApplicable("method.args.cache_features: no layer is frozen below the trained ones")
    return list(stack[:count])


class Features:
    """The hidden states of all training examples behind a model's frozen layers, in memory.

    From `attach` to `detach` the frozen part has no dropout. The first forward pass in training mode computes the
    features of all examples, always in the same batches, so that a run that goes on after a stop has the same to the
    bit. In evaluation mode, and for an example that isn't among them, the model computes everything.

    Args:
        model: what is called with `input_ids` and `attention_mask`.
        backbone: the part of it that has the layers.
        head: names of the task head's modules.
        inputs: gives the model's arguments for all training examples once through.
    """

    def __init__(
        self, model: nn.Module, backbone: nn.Module, head: Sequence[str], inputs: Callable[[], Iterable[Batch]]
    ) -> None:
        self._model, self._backbone, self._inputs = model, backbone, inputs
        self._layers = frozen_layers(backbone, head)
        #: By an example's tokens, where its rows are in `_rows`, (positions of all examples, width).
        self._places: dict[bytes, slice] = {}
        self._rows: torch.Tensor | None = None
        #: Whether the last frozen layer gives one position of each example (`models.one_position`).
        self._narrow = False
        #: By layer, how many values it returns; None: hidden states by themselves.
        self._returns: dict[int, int | None] = {}
        self._recording = False
        self._recorded: torch.Tensor | None = None
        #: Where the present batch's examples are, and its mask (n, length); None: compute.
        self._present: tuple[list[slice], torch.Tensor] | None = None
        self._handles: list[Any] = []
        self._still: list[nn.Module] = []

    def attach(self) -> None:
        """Look features up at every forward pass in training mode from now on."""

        # Functions and no methods of this object: copies of the model would copy the features.
        def before(model: nn.Module, _: Any, named: dict[str, Any]) -> None:
            if model.training and not self._recording:
                self._look_up(named)

        def after(*_: Any) -> None:
            self._present = None

        self._handles = [
            self._model.register_forward_pre_hook(before, with_kwargs=True),
            self._model.register_forward_hook(after, always_call=True),
        ]

    def detach(self) -> None:
        """Leave the model as it was, and let the features go."""
        for handle in self._handles:
            handle.remove()
        for layer in self._layers:
            vars(layer).pop("forward", None)
        self._rows, self._places, self._handles, self._still = None, {}, [], []

    def _look_up(self, named: dict[str, Any]) -> None:
        self._still = self._still or self._frozen()
        for module in self._still:
            if module.training:
                module.eval()
        if self._rows is None:
            self._compute()
        if set(named) - {name for name, value in named.items() if value is None} <= {*_DECIDING, *_OTHERS}:
            keys, mask = _keys(named)
            places = [self._places[key] for key in keys if key in self._places]
            self._present = (places, mask) if len(places) == len(keys) else None

    def _frozen(self) -> list[nn.Module]:
        """The frozen layers; outside all layers the modules without parts: embeddings, norms, dropout."""
        (stack,) = layers.stacks(self._backbone).values()
        inside = {id(module) for module in stack.modules()}
        alone = [m for m in self._backbone.modules() if id(m) not in inside and not list(m.children())]
        return [*self._layers, *alone]

    @torch.no_grad()
    def _compute(self) -> None:
        """Raises ConfigError if there isn't the memory, NotApplicable if a layer gives more than hidden states."""
        for place, layer in enumerate(self._layers):
            layer.forward = self._replacing(layer, place)
        device = next(self._model.parameters()).device
        masks = [batch["attention_mask"] for batch in self._inputs()]
        examples, tokens = sum(map(len, masks)), int(sum(mask.sum() for mask in masks))
        end, self._recording = 0, True
        try:
            for batch in self._inputs():
                with contextlib.suppress(_Enough):
                    self._model(**{k: x.to(device) if isinstance(x, torch.Tensor) else x for k, x in batch.items()})
                end = self._keep(batch, end, examples, tokens)
        finally:
            self._recording = False
            torch.clear_autocast_cache()  # Casts made without gradients mustn't serve a pass that has some.

    def _keep(self, batch: Batch, end: int, examples: int, tokens: int) -> int:
        """Keeps the recorded features of a batch behind the first `end` rows, and returns how many there are then."""
        h, (keys, mask) = self._recorded, _keys(batch)
        assert h is not None, "the last frozen layer wasn't called"
        if self._rows is None:
            self._narrow = h.shape[1] != mask.shape[1]
            self._rows = _room(examples if self._narrow else tokens, h)
        lengths = [1] * len(h) if self._narrow else mask.sum(dim=1).tolist()
        rows = h[:, 0] if self._narrow else h[mask.to(h.device)]
        self._rows[end : end + len(rows)] = rows
        for key, length in zip(keys, lengths, strict=True):
            self._places[key] = slice(end, end + length)
            end += length
        return end

    def _replacing(self, layer: Any, place: int) -> Callable[..., Any]:
        """A frozen layer's `forward`: nothing where features are looked up, but of the last one the features."""
        last = place == len(self._layers) - 1

        def forward(*inputs: Any, **named: Any) -> Any:
            if self._present is not None:
                h = inputs[0] if inputs else named["hidden_states"]
                count = self._returns[place]
                h = self._features(h) if last else h
                return h if count is None else (h, *[None] * (count - 1))
            output = type(layer).forward(layer, *inputs, **named)
            if self._recording:
                self._returns[place], h = _parted(output)
                if last:
                    self._recorded = h
                    raise _Enough
            return output

        return forward

    def _features(self, h: torch.Tensor) -> torch.Tensor:
        """The features of the present batch, (n, length, width) with zeros where there is padding, or (n, 1, width).

        h: what the first layer is given, (n, length, width).
        """
        assert self._rows is not None
        assert self._present is not None
        places, mask = self._present
        rows = torch.cat([self._rows[place] for place in places]).to(h.device)
        if self._narrow:
            return rows[:, None]
        return rows.new_zeros(*h.shape[:2], rows.shape[1]).index_put((mask.to(h.device),), rows)


def _keys(named: dict[str, Any]) -> tuple[list[bytes], torch.Tensor]:
    """The tokens of every example of a batch as bytes, without padding, and the batch's mask, (n, length)."""
    mask = named["attention_mask"].bool().cpu()
    deciding = [named[name].cpu() for name in ("input_ids", "token_type_ids") if named.get(name) is not None]
    rows = zip(mask, *deciding, strict=True)
    return [b"".join(x[real].numpy().tobytes() for x in row) for real, *row in rows], mask


def _parted(output: Any) -> tuple[int | None, torch.Tensor]:
    """The number of values that a layer returns (None: hidden states by themselves), and the hidden states."""
    if isinstance(output, torch.Tensor):
        return None, output
    if isinstance(output, tuple) and not any(value is not None for value in output[1:]):
        return len(output), output[0]
    raise NotApplicable("method.args.cache_features: this model's layers give more than hidden states")


def _room(rows: int, h: torch.Tensor) -> torch.Tensor:
    """Space in main memory for so many rows of hidden states, (rows, width).

    Raises:
        ConfigError: it takes more than half of the memory that is free.
    """
    size, free = rows * h.shape[-1] * h.element_size(), _free_memory()
    if free is not None and size > free / 2:
        raise ConfigError(
            f"method.args.cache_features: the features take {size / 1e9:.1f} GB, more than half of the "
            f"{free / 1e9:.1f} GB of memory that are free; allowed is false, or fewer recipe.train_samples"
        )
    return torch.empty(rows, h.shape[-1], dtype=h.dtype)


def _free_memory() -> int | None:
    """Bytes that the kernel can give away; None where it doesn't say (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
