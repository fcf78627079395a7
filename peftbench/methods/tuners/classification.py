"""Sequence classification with peft's methods, where peft itself goes wrong.

1. A soft prompt shifts the token that the head reads. Encoders then read the first virtual token instead of [CLS];
   decoders, given embeddings instead of ids, read the last position, which is padding in all but the longest example
   of a batch (huggingface/peft#764). `SequenceClassifier` puts the right token where the head reads.
2. `disable_adapter` raises where there is a soft prompt.
3. Some configurations have no `modules_to_save`: the new head would stay at random. `with_head` adds the field.

Importing this module puts these into peft's own tables, so that `PeftModel.from_pretrained` gives the same model. An
adapter of theirs loads in plain peft too, but answers as peft does.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftConfig, PeftModelForSequenceClassification, PeftType
from torch import nn

from peftbench.methods.tuners import peft_compat

#: These add keys and values, not positions: the head's token stays where it is.
NO_POSITIONS = (PeftType.PREFIX_TUNING, PeftType.CARTRIDGE)


class SequenceClassifier(PeftModelForSequenceClassification):
    """peft's class, with the head reading the token behind the prompt (encoders) or the last real one (decoders)."""

    # peft spells out arguments that are only passed on.
    def forward(self, input_ids: Any = None, attention_mask: Any = None, **arguments: Any) -> Any:  # type: ignore[override]
        config = self.active_peft_config
        if not config.is_prompt_learning or config.peft_type in NO_POSITIONS:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **arguments)
        model: Any = self.base_model
        if getattr(model.config, "classifier_pooling", "cls") == "mean":
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **arguments)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        move = functools.partial(put_pooled, prompt=config.num_virtual_tokens, lengths=mask.sum(dim=1))
        handle = getattr(model, model.base_model_prefix).register_forward_hook(move)
        try:
            return super().forward(input_ids=input_ids, attention_mask=mask, **arguments)
        finally:
            handle.remove()

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Disables the adapter as peft's own does, which raises where there is a soft prompt."""
        if not self.active_peft_config.is_prompt_learning:
            with super().disable_adapter():
                yield
            return
        with peft_compat.prompt_disabled(self):
            yield


def put_pooled(backbone: nn.Module, _: Any, output: Any, *, prompt: int, lengths: torch.Tensor) -> Any:
    """Copies the token behind the prompt to the first position and the last real token to the last.

    output.last_hidden_state: (n, prompt + longest, width); lengths: (n,) real tokens without the prompt.
    """
    hidden = output.last_hidden_state
    last = hidden[torch.arange(len(hidden), device=hidden.device), prompt + lengths - 1]
    moved = torch.cat([hidden[:, prompt : prompt + 1], hidden[:, 1:-1], last[:, None]], dim=1)
    output.last_hidden_state = moved
    if output.get("pooler_output") is not None:
        output.pooler_output = backbone.pooler(moved)  # type: ignore[operator]
    return output


peft_compat.use_for_sequence_classification(SequenceClassifier)


def with_head(config_class: type[PeftConfig]) -> type[PeftConfig]:
    """The class itself if it has `modules_to_save`, else the one that stands for it with that field."""
    return _headed.get(config_class, config_class)


def _add_field(config_class: type[PeftConfig]) -> type[PeftConfig]:
    extra = ("modules_to_save", list[str] | None, dataclasses.field(default=None))
    return dataclasses.make_dataclass(config_class.__name__, [extra], bases=(config_class,))


_types = peft_compat.config_classes()
_headed = {
    config_class: _add_field(config_class)
    for config_class in _types.values()
    if "modules_to_save" not in {f.name for f in dataclasses.fields(config_class)}
}
_types.update({name: _headed[config_class] for name, config_class in _types.items() if config_class in _headed})
