"""The pretrained model (backbone) and its tokenizer, from local files alone: `checkpoints.locate` downloaded them."""

import difflib
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from peftbench.config.types import ModelConfig, RunConfig
from peftbench.errors import ConfigError, brief
from peftbench.models import causal, heads, quantization
from peftbench.models.checkpoints import Checkpoint
from peftbench.models.parameters import in_head
from peftbench.tasks.base import Task


def load_tokenizer(config: ModelConfig, checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer; one of bytes for a model that starts at random. Raises ConfigError if it can't be
    used."""
    if checkpoint.folder is None:
        return _byte_tokenizer(dict(config.config or {}))
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=config.trust_remote_code)
    except Exception as error:  # Each kind of tokenizer file fails in its own way.
        raise ConfigError(f"model={config.name}: can't load the tokenizer ({brief(error)})") from None
    if len(tokenizer) <= len(tokenizer.all_special_tokens) + 1:
        raise ConfigError(f"model={config.name}: the tokenizer knows no word: its files are missing or empty")
    if tokenizer.pad_token_id is None:
        # GPT-2 and Llama have none. Padding is masked, so any token does.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(run: RunConfig, checkpoint: Checkpoint, task: Task) -> nn.Module:
    """The base model in evaluation mode: 32-bit floats, or packed weights with `method.quantization`. The task's head
    is new and random.

    Raises:
        ConfigError: weights can't be read, or the checkpoint lacks weights outside the head. Those would stay at
            random, frozen under most methods, and spoil every score in silence.
    """
    config, packed = run.model, quantization.settings(run)
    if packed:
        # transformers does so by itself only if no modules are named. Packed output embeddings may be the input's too.
        packed.llm_int8_skip_modules += quantization.outputs(build_empty(config, checkpoint, task))

    def load(folder: str) -> nn.Module:
        arguments = {"quantization_config": packed, "device_map": _device(run)} if packed else {}
        model, info = task.auto_model.from_pretrained(
            folder,
            config=model_config(config, checkpoint, task),
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=config.trust_remote_code,
            **arguments,
        )
        new = [name for name in info["missing_keys"] if not in_head(name, config.head)]
        if new:
            raise ConfigError(f"model={config.name}: {folder} lacks weights outside model.head: {new[0]}, ...")
        return quantization.keep_packing(model)

    if checkpoint.folder is None:
        model = task.auto_model.from_config(model_config(config, checkpoint, task), dtype=torch.float32)
        model = quantization.from_weights(model, load) if packed else model
    else:
        try:
            model = load(str(checkpoint.folder))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"model={config.name}: can't load {checkpoint.folder}: {brief(error)}") from None
    if run.hardware.gradient_checkpointing:
        # Not the older, re-entrant kind: it needs an input that has a gradient, which a frozen model's hasn't.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return causal.last_in_one_piece(exact_head(model, run, task)).eval()


def exact_head(model: nn.Module, run: RunConfig, task: Task) -> nn.Module:
    """The model, whose task head gives logits of 32 bits in mixed precision too."""
    mixed = task.formulation == "head" and run.hardware.precision != "32-true"
    return heads.in_32_bits(model, run.model.head) if mixed else model


def _device(run: RunConfig) -> dict[str, str]:
    """transformers' `device_map` for packed weights: they are packed on the device where they will stay."""
    return {"": "cuda" if run.hardware.accelerator != "cpu" and torch.cuda.is_available() else "cpu"}


def build_empty(config: ModelConfig, checkpoint: Checkpoint, task: Task) -> nn.Module:
    """The model on the meta device, without weights: to try a method on it before anything is loaded."""
    with torch.device("meta"):
        return task.auto_model.from_config(model_config(config, checkpoint, task))


def model_config(config: ModelConfig, checkpoint: Checkpoint, task: Task) -> Any:
    """The transformers configuration with the task's arguments. Raises ConfigError if there is none."""
    if checkpoint.folder is not None:
        try:
            loaded = AutoConfig.from_pretrained(
                checkpoint.folder, trust_remote_code=config.trust_remote_code, **task.model_args
            )
        except Exception as error:  # A file from elsewhere may be wrong in any way.
            raise ConfigError(f"model={config.name}: can't read its config.json ({brief(error)})") from None
        if getattr(loaded, "pad_token_id", None) is None:
            # A decoder's head looks for the last token that isn't padding. `load_tokenizer` chooses the same one.
            loaded.pad_token_id = (
                loaded.eos_token_id[0] if isinstance(loaded.eos_token_id, list) else loaded.eos_token_id
            )
        return loaded
    arguments = dict(config.config or {})
    kind, kinds = str(arguments.pop("model_type", None)), sorted(CONFIG_MAPPING.keys())
    if kind not in kinds:
        alike = ", ".join(difflib.get_close_matches(kind, kinds, n=5, cutoff=0.4)) or "none"
        raise ConfigError(
            f"model.config.model_type={kind}: transformers {transformers.__version__} has no such "
            f"architecture; nearest of its {len(kinds)}: {alike}"
        )
    try:
        return AutoConfig.for_model(kind, **arguments, **task.model_args)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"model.config: not a transformers configuration ({brief(error)})") from None


def virtual_tokens(config: RunConfig) -> int:
    """The number of positions that a method's virtual tokens take."""
    return int((config.method.adapter or {}).get("num_virtual_tokens") or 0)


def positions(model: nn.Module) -> int | None:
    """The number of a model's absolute positions; None if positions are relative (T5, DeBERTa-v3)."""
    config: Any = model.config
    if hasattr(config, "relative_attention_num_buckets"):
        return None
    if getattr(config, "relative_attention", False) and not config.position_biased_input:
        return None
    # transformers maps GPT-2's `n_positions` to this name.
    configured = getattr(config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None:
            # RoBERTa's first position comes after its padding index.
            return module.num_embeddings - module.padding_idx - 1
    return configured


def check_length(model: nn.Module, config: RunConfig, task: Task) -> None:
    """Check `recipe.max_length` and `max_new_tokens` against the model's positions.

    Args:
        task: after its `prepare`.

    Raises:
        ConfigError: the longest input with the method's virtual tokens has more positions than the model; a decoder's
            answer leaves its prompt none; or an encoder-decoder's answer has more than the model.
    """
    longest, length, virtual = positions(model), config.recipe.max_length, virtual_tokens(config)
    if longest is not None and length + virtual > longest:
        taken = f", of which the method's virtual tokens take {virtual}" if virtual else ""
        raise ConfigError(f"recipe.max_length={length}: {config.model.name} has {longest} positions{taken}")
    if not task.generates:
        return
    written = task.generation["max_new_tokens"]  # type: ignore[attr-defined]
    if config.model.family == "decoder" and written >= length:
        raise ConfigError(
            f"recipe.max_length={length}: the written answer alone takes {written}; its prompt takes more"
        )
    if longest is not None and written > longest:
        raise ConfigError(f"max_new_tokens={written}: {config.model.name} has {longest} positions")


def _byte_tokenizer(config: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer with five special tokens and then one for each byte. The padding token has the id that the model's
    configuration names."""
    special = ["[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    special.insert(config.get("pad_token_id", 0), "[PAD]")
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (config.get("type_vocab_size", 0) > 1)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "unk", "mask", "pad")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)
