"""Mix-and-match adapters: a short prefix in every attention layer and a scaled parallel adapter at every feed-forward
block, as one adapter.

Source: He et al., "Towards a Unified View of Parameter-Efficient Transfer Learning", arXiv 2110.04366, section 4.6. The
prefixes are trained as they are; the authors' code makes them by an MLP while it trains.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from peftbench.methods.bottleneck import output_width
from peftbench.methods.parallel import ParallelConfig, ParallelLinear, tap_before
from peftbench.methods.tuners import prefix_attention
from peftbench.methods.tuners.adapter import AdapterLayer, AdapterTuner, names_module, refuse_merge, register
from peftbench.methods.tuners.prefix_attention import PrefixLinear


@dataclass
class MamConfig(ParallelConfig):
    """`prefix_modules`: the projections of the queries; `prefix_length`: learned keys and values of each attention
    layer. The rest is the parallel adapter's. Raises ValueError for a length below 1."""

    prefix_modules: list[str] | str | None = None
    prefix_length: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "MAM"
        if type(self.prefix_length) is not int or self.prefix_length < 1:
            raise ValueError(f"prefix_length must be an integer above 0, not {self.prefix_length!r}")


class HybridParallelLinear(ParallelLinear):
    """The parallel adapter under the names of a hybrid's tensors."""

    adapter_layer_names = ("hybrid_down", "hybrid_act", "hybrid_up")


class PrefixTuner(AdapterTuner):
    """A tuner with a prefix among its parts."""

    prefix = "hybrid_"
    tuner_layer_cls = AdapterLayer
    _check_merge_allowed = refuse_merge

    def attention_of(self, name: str) -> nn.Module:
        """The attention layer that a projection is part of."""
        return self.model.get_submodule(name.rpartition(".")[0])

    def check_target(self, name: str, module: nn.Module) -> None:
        if output_width(module) is None:
            raise ValueError(f"{self.method}: {name} is a {type(module).__name__}, not a Linear or Conv1D")

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        for name, _ in model.named_modules():
            if names_module(peft_config.prefix_modules, name):
                prefix_attention.check(name, self.attention_of(name))
        prefix_attention.install(model)


class MamTuner(PrefixTuner):
    """Refuses attention that takes no prefix (DeBERTa)."""

    method = "mam"
    target_fields = ("prefix_modules", "target_modules")

    def wrap(self, name: str, module: nn.Module, config: MamConfig) -> AdapterLayer:
        if names_module(config.prefix_modules, name):
            return PrefixLinear(module, prefix_attention.heads(self.attention_of(name)))
        return HybridParallelLinear(module, tap_before(self.model, name, config.input_modules))


register("MAM", config_class=MamConfig, tuner_class=MamTuner, prefix="hybrid_")
