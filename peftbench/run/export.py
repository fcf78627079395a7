"""A finished run's weights as a folder that plain transformers and peft load: what `peftbench export` starts by the
name of `write`."""

import copy
import json
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from transformers import GenerationConfig

from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.report import card
from peftbench.run.reloading import Reloaded, reload
from peftbench.system import files, redact
from peftbench.system.process_group import Emit
from peftbench.tasks.base import Generating, Task

#: Settings of `generate` that only draw among tokens, and that only choose among beams.
_SAMPLED = ("temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_OF_BEAMS = ("early_stopping", "length_penalty")


def write(path: str, folder: str, how: dict[str, Any], emit: Emit) -> None:
    """Emits {"result": {"files": names, "kind": "model" or "adapter"}}, or {"problem": text} for what is the user's to
    mend.

    Args:
        path: of the record.
        folder: what is made; it must not be there.
        how: `merged` and `model_root`, as `reload`.
    """
    target = Path(folder)
    try:
        if target.exists():
            raise ConfigError(f"export: {target}: is there already")
        reloaded = reload(path, model_root=how["model_root"], merged=how["merged"])
        check(reloaded, merged=how["merged"])
        files.write_folder(target, lambda temporary: fill(reloaded, temporary))
    except ConfigError as error:
        emit({"result": {"problem": str(error)}})
        return
    names = sorted(file.name for file in target.iterdir())
    emit({"result": {"files": names, "kind": "adapter" if (target / "adapter_config.json").exists() else "model"}})


def check(reloaded: Reloaded, *, merged: bool, command: str = "export") -> None:
    """Raises ConfigError for what couldn't be loaded without this package, or without a path of this machine."""
    name = reloaded.config.method.name
    if merged and not reloaded.merged and isinstance(reloaded.tuner.model, PeftModel):
        raise ConfigError(
            f"{command}: merged=true: {name} can't be folded into the weights; merged=false keeps it apart"
        )
    if reloaded.merged or not isinstance(reloaded.tuner.model, PeftModel):
        return
    if type(reloaded.tuner.model.active_peft_config).__module__.startswith("peftbench."):
        cure = "merged=true makes a whole model" if reloaded.config.method.mergeable else "it is loaded by peftbench"
        raise ConfigError(f"{command}: {name} is a tuner of peftbench, which plain peft doesn't know; {cure}")


def fill(reloaded: Reloaded, folder: Path) -> None:
    """Writes weights, tokenizer, the configuration with the labels' names, how texts are generated where the task does,
    and a model card into an empty folder."""
    model: Any = reloaded.tuner.model
    config = backbones.model_config(reloaded.config.model, reloaded.checkpoint, reloaded.task)
    if isinstance(model, PeftModel):
        reloaded.method.save(model, folder)
        _name_base(folder, reloaded)
        config.save_pretrained(folder / "base")
    else:
        model.save_pretrained(folder)
    if reloaded.task.generates:
        generation(model, reloaded.task).save_pretrained(folder)
    reloaded.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(redact.redact(card.text(reloaded.record)), encoding="utf-8")


def generation(model: Any, task: Task) -> GenerationConfig:
    """The arguments that the run called `generate` with, on top of the base's own settings."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    settings: GenerationConfig = copy.deepcopy(base.generation_config)
    asked = cast(Generating, task).generation
    idle = _SAMPLED if asked["num_beams"] > 1 else (*_SAMPLED, *_OF_BEAMS)
    # transformers refuses to save what has no effect, and bases that were made to chat are full of it.
    settings.update(**dict.fromkeys(idle), **asked)
    return settings


def _name_base(folder: Path, reloaded: Reloaded) -> None:
    """Puts the base's name and commit on the hub into peft's configuration, and no path."""
    file = folder / "adapter_config.json"
    written = json.loads(file.read_text())
    named = {"base_model_name_or_path": reloaded.config.model.checkpoint, "revision": reloaded.config.model.revision}
    file.write_text(json.dumps({**written, **named}, indent=2, sort_keys=True), encoding="utf-8")
