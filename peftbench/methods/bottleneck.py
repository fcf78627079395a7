"""Bottleneck adapters in Houlsby's placement.

Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", arXiv 1902.00751, section
2.1 and Figure 2. Each transformer layer gets two: behind the attention's output projection and
behind the feed-forward block's, before the residual is added and the layer norm.
What differs from the paper and its code (google-research/adapter-bert):
- Dropout. There it comes between projection and adapter: h' = dropout(h), then h' + adapter(h').
  transformers' BERT applies it behind the projection, so here it falls on the sum:
  dropout(h + adapter(h)). In evaluation the two are the same; in training the noise differs.
- Layer norms. There they are trained as well (section 2.1); here they are frozen unless named in
  `modules_to_save` (BERT: attention.output.LayerNorm and output.LayerNorm).
- The released code has init_std 1e-3 and the tanh form of gelu ("gelu_new").
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from peftbench.methods.tuners.adapter import AdapterLayer, AdapterTuner, refuse_merge, register


@dataclass
class BottleneckConfig(PeftConfig):
    """`bottleneck_size`: r, the width between the two projections (the paper tries 8, 64 and 256).
    `non_linearity`: a name from transformers' ACT2FN. `init_std`: of both projections (section 3.6:
    0.01); their biases start at zero. `scaling`: factor on the adapter's output.
    `target_modules`: the sub-layers' output projections, Linear or Conv1D: no default.
    `modules_to_save`: trained whole, i.e. the task head (peft adds it for sequence classification).
    Raises ValueError for values that make no sense."""

    bottleneck_size: int = 64
    non_linearity: str = "gelu"
    init_std: float = 0.01
    scaling: float = 1.0
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BOTTLENECK"
        size = self.bottleneck_size
        if type(size) is not int or size < 1:
            raise ValueError(f"bottleneck_size must be an integer above 0, not {size!r}")
        if self.non_linearity not in ACT2FN:
            names = ", ".join(sorted(ACT2FN))
            raise ValueError(f"non_linearity must be one of {names}, not {self.non_linearity!r}")
        if not _finite(self.init_std) or self.init_std <= 0:  # at 0 there would be no gradient
            raise ValueError(f"init_std must be a finite number above 0, not {self.init_std!r}")
        if not _finite(self.scaling) or self.scaling == 0:
            raise ValueError(f"scaling must be a finite number other than 0, not {self.scaling!r}")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def output_width(module: nn.Module) -> int | None:
    """The last dimension of what a Linear or Conv1D (wrapped by a tuner or not) puts out."""
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    if isinstance(base, nn.Linear):
        return base.out_features
    return base.nf if isinstance(base, Conv1D) else None


def checked_width(layer: AdapterLayer) -> int:
    """`output_width` of a layer whose base the tuner has checked."""
    width = output_width(layer)
    assert width is not None, "the tuner wraps only a Linear or Conv1D"
    return width


class BottleneckLinear(AdapterLayer):
    """Equation: y = h + s (W_up f(W_down h + b_down) + b_up), h = base_layer(x).

    Shapes: h, y: (..., d); W_down: (r, d), b_down: (r,), W_up: (d, r), b_up: (d,). Weights are
    drawn from N(0, init_std^2) cut at two standard deviations: y - h is of the order init_std^2.
    With several adapters active each sees the same h, and their outputs are added up.
    """

    # down, activation (prelu has a weight), up
    adapter_layer_names: tuple[str, ...] = ("bottleneck_down", "bottleneck_act", "bottleneck_up")
    other_param_names: tuple[str, ...] = ("scaling",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())
        self.scaling: dict[str, float] = {}

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds a bottleneck of 2 d r + r + d weights."""
        width, weight, std = checked_width(self), self.weight, config.init_std
        dtype = weight.dtype if weight.is_floating_point() else torch.float32  # quantised base
        place: dict[str, Any] = {"device": weight.device, "dtype": dtype}
        down = nn.Linear(width, config.bottleneck_size, **place)
        up = nn.Linear(config.bottleneck_size, width, **place)
        for projection in (down, up):
            nn.init.trunc_normal_(projection.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(projection.bias)
        parts = (down, ACT2FN[config.non_linearity].to(**place), up)
        for name, part in zip(self.adapter_layer_names, parts, strict=False):
            getattr(self, name)[adapter_name] = part
        self.scaling[adapter_name] = config.scaling

    def parts(self, adapter_name: str) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """Down projection, activation, up projection."""
        down, activation, up = (getattr(self, name)[adapter_name] for name in self.adapter_layer_names[:3])
        return down, activation, up

    def _bottleneck(self, adapter_name: str, h: torch.Tensor) -> torch.Tensor:
        down, activation, up = self.parts(adapter_name)
        # peft keeps adapters in float32 on a half-precision base
        return up(activation(down(h.to(down.weight.dtype)))).to(h.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., d)."""
        y = h = self.base_layer(x)
        for name in self.in_use():
            y = torch.add(y, self._bottleneck(name, h), alpha=self.scaling[name])
        return y

    merge = refuse_merge


class BottleneckTuner(AdapterTuner):
    """Refuses targets that are neither Linear nor Conv1D, and merging (NotImplementedError)."""

    method = "bottleneck"
    prefix = "bottleneck_"
    tuner_layer_cls: type[AdapterLayer] = BottleneckLinear

    def check_target(self, name: str, module: nn.Module) -> None:
        kind = type(module).__name__
        if output_width(module) is None:
            raise ValueError(f"bottleneck: {name} is a {kind}, not a Linear or Conv1D")

    def wrap(self, name: str, module: nn.Module, config: Any) -> AdapterLayer:
        return BottleneckLinear(module)

    _check_merge_allowed = refuse_merge


register(
    "BOTTLENECK",
    config_class=BottleneckConfig,
    tuner_class=BottleneckTuner,
    prefix="bottleneck_",
)
