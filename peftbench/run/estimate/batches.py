"""The largest batch that a run may meet, made without data."""

import torch

from peftbench.config.types import RunConfig
from peftbench.data.batch import IGNORED, Batch
from peftbench.models import backbones
from peftbench.tasks.base import Task

#: Tokens of a choice's text, of which nothing says how long it is.
_CHOICE = 8


def largest(config: RunConfig, task: Task, *, examples: int, length: int, special: int) -> Batch:
    """A batch of `examples` examples of `length` tokens, of which the last has one less: there is padding, as nearly
    always.

    Args:
        special: an id that every text has (a masked model's mask).
    """
    choices = 2 if config.dataset.task == "multiple_choice" and not task.generates else 1
    lines, answer = examples * choices, _answer(config, task)
    width = length - (answer if config.model.family == "decoder" else 0) - backbones.virtual_tokens(config) * 0
    ids = torch.ones(lines, max(2, width), dtype=torch.long)
    ids[:, 1] = special
    mask = torch.ones_like(ids)
    if lines > 1:
        mask[-1, -1] = 0
    regression = config.dataset.task == "regression" and not task.generates
    labels = torch.zeros(examples, dtype=torch.float32 if regression else torch.long)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "index": torch.arange(examples)}
    if choices > 1:
        batch["sequences"] = torch.full((examples,), choices)
    if answer:
        batch["targets"] = torch.ones(lines, answer, dtype=torch.long)
        if lines > 1 and answer > 1:
            batch["targets"][-1, -1] = IGNORED
    return batch


def _answer(config: RunConfig, task: Task) -> int:
    """Tokens of an answer that is made of tokens; 0: answers are labels."""
    if task.generates:
        return int(task.generation["max_new_tokens"])  # type: ignore[attr-defined]
    return _CHOICE if config.dataset.task == "multiple_choice" and task.formulation == "verbaliser" else 0
