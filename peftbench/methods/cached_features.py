"""`method.args.cache_features`: what the frozen layers make of the training examples is computed once for all epochs.

For methods of peft that train the last layers or the head alone. The frozen part then has no dropout: a run with the
argument isn't the run without.
"""

from typing import Any

import lightning as L
from lightning.pytorch import Callback
from torch import nn

from peftbench.config.types import RunConfig
from peftbench.methods.base import Context
from peftbench.models.features import Features


def refusal(config: RunConfig) -> str | None:
    """Says why features can't be kept in a run; None: they can."""
    if config.model.family == "encoder_decoder":
        return "method.args.cache_features works on models of one stack of layers: encoders and decoders"
    if config.hardware.strategy == "fsdp":
        return "method.args.cache_features needs whole layers, which hardware.strategy=fsdp shares out"
    if config.hardware.compile:
        return "method.args.cache_features doesn't work with hardware.compile=true"
    return None


def attach(adapted: Any, context: Context) -> Features:
    """Has the adapted model look features up while it trains. Several devices keep all features each.

    Raises:
        NotApplicable: no layer is frozen below the trained ones.
    """
    base = adapted.get_base_model()
    backbone: nn.Module = getattr(base, base.base_model_prefix)
    features = Features(
        adapted, backbone, context.model.head, lambda: (context.task.inputs(batch) for batch in context.batches())
    )
    features.attach()
    return features


class Detach(Callback):
    """Lets features go at the end of training: what is scored, saved and merged is the plain model."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._features.detach()
