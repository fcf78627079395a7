"""`model.dtype`: a run's frozen weights in bfloat16, where its method leaves them to matrix products."""

from torch import nn

from peftbench.config.types import RunConfig
from peftbench.errors import NotApplicable
from peftbench.methods.base import Method
from peftbench.models import frozen


def store(model: nn.Module, config: RunConfig, method: Method) -> None:
    """Rounds them, in place, if the configuration asks for it.

    Args:
        model: what `method.apply` returned; what is trained has `requires_grad`.

    Raises:
        NotApplicable: the method reads them itself, or freezes no linear layer.
    """
    if config.model.dtype is None:
        return
    where = f"method={config.method.name} on model={config.model.name}: model.dtype={config.model.dtype}"
    if method.reads_weights(model):
        raise NotApplicable(f"{where} would change its results, as it reads frozen weights itself; allowed is null")
    parameters = frozen.frozen(model, config.model.head)
    if not parameters and method.trains:
        raise NotApplicable(f"{where} has nothing to round, as no linear layer is frozen; allowed is null")
    frozen.store(parameters.values())


def store_base(base: nn.Module, config: RunConfig) -> None:
    """Rounds those of a plain base that stands beside a trained model."""
    if config.model.dtype is not None:
        frozen.store(frozen.weights(base, config.model.head).values())
