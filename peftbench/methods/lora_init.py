"""LoRA started from the weights or from data, and not at zero: PiSSA, OLoRA, CorDA, LoRA-GA, EVA, LoftQ.

Most of these change the base weights (W0 becomes W0 - s B0 A0), so the adapter alone doesn't fit a fresh base. It is
therefore saved as the plain LoRA of twice the rank that does: s B A - s B0 A0 = s [B, -B0] [A; A0] (Meng et al., arXiv
2404.02948, appendix C). peft's own conversion drops the task head.
"""

import json
import math
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, initialize_lora_eva_weights
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from peftbench.config.types import RunConfig
from peftbench.methods.base import Context
from peftbench.methods.first_batches import first_rows
from peftbench.methods.hub import Hub, check_rows

_WEIGHTS = "adapter_model.safetensors"


def _on_meta(model: nn.Module) -> bool:
    return next(model.parameters()).is_meta


class Residual(Hub):
    """PiSSA, OLoRA: the factors are taken out of the weights. `args.batches`: of data, where it is looked at."""

    _start: dict[str, torch.Tensor]

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        for name, module in model.named_modules():
            # peft finds out at the first step only.
            if config.init_lora_weights == "olora" and isinstance(module, Conv1D):  # type: ignore[attr-defined]
                if check_target_module_exists(config, name):
                    raise ValueError(f"OLoRA's start doesn't fit a Conv1D ({name})")
        if _on_meta(model):
            config.init_lora_weights = True  # type: ignore[attr-defined]  # There are no weights to take factors from.
        else:
            self.look(model, config, context)
        adapted = super().inject(model, config, context)
        self._start = {k: v.detach().clone() for k, v in _factors(adapted).items()}
        return adapted

    def look(self, model: nn.Module, config: PeftConfig, context: Context) -> None:
        """Hook for what is learnt from data before the factors are made; here nothing."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Saves the plain LoRA of twice the rank, which fits the unchanged base."""
        super().save(model, folder)
        state, file = load_file(folder / _WEIGHTS), folder / "adapter_config.json"
        for name, start in self._start.items():
            axis, sign = (0, 1) if "lora_A" in name else (1, -1)
            state[name] = torch.cat([state[name], sign * start.to(state[name].device)], dim=axis)
        save_file(state, folder / _WEIGHTS)
        config = json.loads(file.read_text())
        config |= {"init_lora_weights": True, "r": 2 * config["r"], "corda_config": None, "lora_ga_config": None}
        config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
        file.write_text(json.dumps(config, indent=2, sort_keys=True))


def _factors(model: PeftModel) -> dict[str, torch.Tensor]:
    """A and B of all layers, by the names they are saved under."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor for name, tensor in state.items() if "lora_A" in name or "lora_B" in name}


class Corda(Residual):
    """CorDA: the weights' components that matter to the data. Source: Yang et al., arXiv 2406.05223, section 3.2."""

    def look(self, model: nn.Module, config: PeftConfig, context: Context) -> None:
        def forward() -> None:
            # One example at a time: peft counts every position, and padding isn't data.
            for batch in first_rows(context, size=1, batches=self.config.args["batches"]):
                model(**context.task.inputs(batch))

        with torch.no_grad():
            preprocess_corda(model.eval(), config, run_model=forward)  # type: ignore[arg-type]


class LoraGA(Residual):
    """LoRA-GA: factors of the first gradient. Source: Wang et al., arXiv 2407.05000, section 3.2."""

    def look(self, model: nn.Module, config: PeftConfig, context: Context) -> None:
        def backward() -> None:
            for batch in first_rows(context, size=8, batches=self.config.args["batches"]):
                context.task.losses(model(**context.task.inputs(batch)), batch).mean().backward()

        trained = [p.requires_grad for p in model.parameters()]
        preprocess_loraga(model.requires_grad_(True).eval(), config, train_step=backward)  # type: ignore[arg-type]
        for p, before in zip(model.parameters(), trained, strict=True):
            p.grad = None
            p.requires_grad_(before)


class Eva(Hub):
    """EVA: A spans the directions in which the inputs vary most; ranks go where that explains most.

    Source: Paischer et al., arXiv 2410.07170, section 3.
    """

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        check_rows(model)
        adapted = super().inject(model, config, context)
        if not _on_meta(model):
            batches = [context.task.inputs(b) | {"attention_mask": b["attention_mask"]} for b in context.batches()]
            with torch.no_grad():
                initialize_lora_eva_weights(adapted.eval(), batches, show_progress_bar=False)
        return adapted


class LoftQ(Hub):
    """LoftQ: factors that make up for what 4-bit rounding of the base loses. Source: Li et al., arXiv 2310.08659."""

    def refusal(self, config: RunConfig) -> str | None:
        usual = super().refusal(config)
        if usual is None and not torch.cuda.is_available():
            return "needs a CUDA device: peft computes its start with bitsandbytes' CUDA kernels"
        return usual
