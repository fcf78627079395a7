"""P-tuning with prompt tokens at several places of the template.

Source: Liu et al., "GPT Understands, Too", arXiv 2103.10385, section 3: the template {h_0..h_i, e(x), h_i+1..h_m,
e(y)}; a prompt vector is h_i = MLP([LSTM forward : LSTM backward]_i) of a learned row, and only the h_i are needed in
the end.
"""

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, TaskType
from torch import nn

from peftbench.methods.tuners.adapter import AdapterLayer, AdapterParameters, AdapterTuner, refuse_merge, register
from peftbench.methods.tuners.classification import put_pooled


@dataclass
class SlotsConfig(PeftConfig):
    """`num_virtual_tokens`: prompt tokens in all, `front` of them before the text (behind an encoder's first token),
    the others before the answer: before `mask_token_id` where it occurs, else where the text ends (before an encoder's
    last token). `encoded`: whether LSTM and MLP make them. `family`: encoder, decoder or encoder_decoder. Raises
    ValueError for counts that don't fit."""

    num_virtual_tokens: int = 6
    front: int = 3
    encoded: bool = True
    family: str = "encoder"
    mask_token_id: int | None = None
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "SLOTS"
        if not 0 <= self.front <= self.num_virtual_tokens or self.num_virtual_tokens < 1:
            raise ValueError(f"front={self.front} must be between 0 and num_virtual_tokens={self.num_virtual_tokens}")


class SlotsEmbedding(AdapterLayer):
    """Wraps the input embeddings, which it leaves as they are, and holds the prompt.

    `slots_rows`: (m, d), as far apart as the embeddings are; over them a two-way LSTM of width d / 2, an MLP d, d, d.
    """

    adapter_layer_names = ("slots_rows", "slots_lstm", "slots_inner", "slots_outer")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.slots_rows = AdapterParameters()
        self.slots_lstm, self.slots_inner, self.slots_outer = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds m d weights, and 6 d^2 + 8 d of the LSTM and 2 (d^2 + d) of the MLP."""
        (_, width), device = self.weight.shape, self.weight.device
        rows = torch.empty(config.num_virtual_tokens, width, device=device)
        spread = 1.0 if self.weight.is_meta else float(self.weight.detach().std())
        self.slots_rows[adapter_name] = nn.Parameter(nn.init.normal_(rows, std=spread))
        if config.encoded:
            self.slots_lstm[adapter_name] = nn.LSTM(width, width // 2, bidirectional=True, device=device)
            self.slots_inner[adapter_name] = nn.Linear(width, width, device=device)
            self.slots_outer[adapter_name] = nn.Linear(width, width, device=device)

    def prompt(self, adapter_name: str) -> torch.Tensor:
        """The prompt vectors h, (m, d)."""
        rows = self.slots_rows[adapter_name]
        if adapter_name not in self.slots_lstm:
            return rows
        with torch.autocast("cpu" if rows.is_meta else rows.device.type, enabled=False):
            both, _ = self.slots_lstm[adapter_name](rows)
            return self.slots_outer[adapter_name](torch.relu(self.slots_inner[adapter_name](both)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, length) ids; result: (n, length, d)."""
        return self.base_layer(x)

    merge = refuse_merge


def insert(x: torch.Tensor, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Puts values (m, ...) before position `places[i]` of row i; x: (n, length, ...), result: (n, length + m, ...)."""
    (n, length), m = x.shape[:2], len(values)
    rows = torch.arange(n, device=x.device)[:, None]
    old = torch.arange(length, device=x.device).expand(n, -1)
    old = old + m * (old >= places[:, None])
    new = places[:, None] + torch.arange(m, device=x.device)
    result = x.new_zeros(n, length + m, *x.shape[2:]).index_put((rows, old), x)
    return result.index_put((rows, new), values.to(x.dtype).expand(n, *values.shape))


class SlotsTuner(AdapterTuner):
    """The prompt goes in where the model's arguments pass, so that the saved adapter works on plain inputs."""

    method = "slots"
    prefix = "slots_"
    tuner_layer_cls = SlotsEmbedding
    _check_merge_allowed = refuse_merge

    def is_default_target(self, module: nn.Module) -> bool:
        embeddings = self.model.get_input_embeddings()
        return module is (embeddings.base_layer if isinstance(embeddings, SlotsEmbedding) else embeddings)

    def check_target(self, name: str, module: nn.Module) -> None:
        if not isinstance(module, nn.Embedding):
            raise ValueError(f"slots: {name} is a {type(module).__name__}, not an Embedding")

    def wrap(self, name: str, module: nn.Module, config: Any) -> SlotsEmbedding:
        return SlotsEmbedding(module)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, answer_places: Any = None, **kwargs: Any
    ) -> Any:
        """answer_places: (n,) where each answer begins, if it stands in the text already; None: where it is asked."""
        layer = self._layer()
        if input_ids is None or not layer.in_use():
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        kwargs.pop("inputs_embeds", None)
        types, config = kwargs.pop("token_type_ids", None), self._config(layer)
        embedded, mask, types = self._put(layer, input_ids, mask, types, answer_places)
        type_ids = {} if types is None else {"token_type_ids": types}
        with contextlib.ExitStack() as after:
            if config.family == "decoder" and config.task_type == TaskType.SEQ_CLS:
                # The head looks for the last token among ids that aren't there: it is put where it looks then.
                move = functools.partial(put_pooled, prompt=0, lengths=mask.sum(dim=1))
                backbone = getattr(self.model, self.model.base_model_prefix)
                after.callback(backbone.register_forward_hook(move).remove)
            return super().forward(inputs_embeds=embedded, attention_mask=mask, **type_ids, **kwargs)

    def generate(self, *, input_ids: Any, attention_mask: Any = None, **kwargs: Any) -> torch.Tensor:
        """The ids that the model writes behind the prompt, a decoder's (n, length) `input_ids` first."""
        layer = self._layer()
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if not layer.in_use():
            return self.model.generate(input_ids=input_ids, attention_mask=mask, **kwargs)
        embedded, mask, _ = self._put(layer, input_ids, mask, None, None)
        written: torch.Tensor = self.model.generate(inputs_embeds=embedded, attention_mask=mask, **kwargs)
        return torch.cat([input_ids, written], dim=1) if self._config(layer).family == "decoder" else written

    def _layer(self) -> SlotsEmbedding:
        return next(m for m in self.model.modules() if isinstance(m, SlotsEmbedding))

    def _config(self, layer: SlotsEmbedding) -> Any:
        (name,) = layer.in_use()
        return self.peft_config[name]

    def _put(self, layer: SlotsEmbedding, ids: torch.Tensor, mask: torch.Tensor, types: Any, answer: Any) -> Any:
        """Embeddings (n, length + m, d), mask and token types of texts with the prompt in its places."""
        config, (name,) = self._config(layer), layer.in_use()
        embedded, prompt = layer(ids), layer.prompt(name)
        answer = self._answer(ids, mask, config) if answer is None else answer
        # A text that is to be gone on with is padded on its left.
        front = mask.argmax(dim=1) + int(config.family == "encoder")
        for part, places in ((prompt[config.front :], answer), (prompt[: config.front], front)):
            ones = torch.ones(len(part), device=mask.device)
            embedded, mask = insert(embedded, part, places), insert(mask, ones, places)
            types = None if types is None else insert(types, 0 * ones, places)
        return embedded, mask, types

    def _answer(self, ids: torch.Tensor, mask: torch.Tensor, config: SlotsConfig) -> torch.Tensor:
        """The position before which the answer is asked for, (n,)."""
        end = mask.shape[1] - mask.flip(1).argmax(dim=1) - int(config.family != "decoder")
        if config.mask_token_id is None:
            return end
        masked = ids.eq(config.mask_token_id)
        return torch.where(masked.any(dim=1), masked.int().argmax(dim=1), end)


register("SLOTS", config_class=SlotsConfig, tuner_class=SlotsTuner, prefix="slots_")
