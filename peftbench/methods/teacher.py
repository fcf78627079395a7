"""A trained model that answers for another one to learn from."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from peftbench.config import loading
from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch
from peftbench.errors import ConfigError, NotApplicable, first_line
from peftbench.methods.base import Context, Method
from peftbench.methods.build import build
from peftbench.methods.finished import trained
from peftbench.models import backbones, checkpoints, one_position
from peftbench.results import finished
from peftbench.results.finished import FinishedRun
from peftbench.tasks.base import Task
from peftbench.tasks.table import build as build_task

_KEY = "method.inputs.teacher"


@dataclass(frozen=True)
class Teacher:
    """A model that is never trained, with what turns a batch into its inputs and its outputs into answers."""

    model: nn.Module
    task: Task
    method: Method | None

    @torch.no_grad()
    def predictions(self, batch: Batch) -> torch.Tensor:
        """The teacher's logits, (n, labels), as its task would score them."""
        inputs = self.task.inputs(batch)
        inputs = inputs if self.method is None else self.method.prepare_batch(inputs)
        # Not a submodule of the student's: Lightning doesn't move it to the device.
        return self.task.predictions(self.model.to(batch["input_ids"].device)(**inputs), batch)


def load(path: str, context: Context) -> Teacher:
    """The teacher at a path, in evaluation mode.

    Raises:
        ConfigError: there is none, or it can't be loaded.
        NotApplicable: it has other labels, solves the task otherwise or reads other tokens than the student.
    """
    finished_run = finished.find(_KEY, path)
    model, task, method, tokenizer = (
        _of_checkpoint(finished_run, context) if finished_run.record is None else _of_run(finished_run, context)
    )
    _compare_tokenizers(tokenizer, context)
    if method is None or not method.needs_all_positions(model):
        one_position.install(model)
    return Teacher(model.requires_grad_(False).eval(), task, method)


def _of_run(finished_run: FinishedRun, context: Context) -> tuple[nn.Module, Task, Method, Any]:
    assert finished_run.record is not None
    config = loading.from_description(finished_run.record.config)
    task, method = build_task(config), build(config.method)
    _compare_tasks(config, task, context)
    checkpoint = checkpoints.locate(config.model, context.model_root)
    finished.check_adapter(_KEY, finished_run, checkpoint.folder, checkpoint.fingerprint)
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    task.prepare(tokenizer)
    return trained(finished_run, config, checkpoint, task), task, method, tokenizer


def _compare_tasks(config: RunConfig, task: Task, context: Context) -> None:
    mine, theirs = context.task.config.labels, config.dataset.labels
    if mine != theirs:
        raise NotApplicable(f"{_KEY}: its labels are {', '.join(theirs or [])}; here they are {', '.join(mine or [])}")
    if (task.formulation, task.peft_type) != (context.task.formulation, context.task.peft_type):
        raise NotApplicable(
            f"{_KEY}: it solves the task as {task.formulation} ({config.model.family}), "
            f"the student as {context.task.formulation} ({context.model.family}): their inputs differ"
        )


def _of_checkpoint(finished_run: FinishedRun, context: Context) -> tuple[nn.Module, Task, None, Any]:
    task = context.task
    try:
        model, info = task.auto_model.from_pretrained(
            finished_run.weights, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(finished_run.weights, trust_remote_code=False)
    except Exception as error:  # Each kind of file fails in its own way.
        raise ConfigError(f"{_KEY}={finished_run.weights}: can't be loaded ({first_line(error)})") from None
    if info["missing_keys"]:
        raise ConfigError(
            f"{_KEY}={finished_run.weights}: lacks trained weights ({sorted(info['missing_keys'])[0]}, ...)"
        )
    names, mine = list(model.config.id2label.values()), task.config.labels
    named = not all(str(name).startswith("LABEL_") for name in names)
    if task.formulation == "head" and mine and (len(names) != len(mine) or (named and names != mine)):
        raise NotApplicable(f"{_KEY}: its labels are {', '.join(names)}; here they are {', '.join(mine)}")
    return model, task, None, tokenizer


def _compare_tokenizers(theirs: Any, context: Context) -> None:
    mine, probe = context.tokenizer, ("One text.", "And another")
    if theirs.get_vocab() != mine.get_vocab() or theirs(*probe)["input_ids"] != mine(*probe)["input_ids"]:
        raise NotApplicable(f"{_KEY}: it reads other tokens than the student, {context.model.name}")
