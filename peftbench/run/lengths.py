"""The check that the examples of a run fit into `recipe.max_length`, before anything is trained."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.examples import Example
from peftbench.data.held_out import HeldOut, Shots
from peftbench.data.sources import DataSource
from peftbench.errors import TooLong
from peftbench.tasks.base import Task
from peftbench.tasks.instructions import TextMixture
from peftbench.tasks.mixture import Mixture
from peftbench.tasks.phrasing import as_chat

#: Tokens that a tokenizer may add to an example, at the most (special tokens, spaces).
_ADDED = 16


def check(config: RunConfig, task: Task, tokenizer: PreTrainedTokenizerBase, source: DataSource, cache: Path) -> None:
    """Check all splits that a run reads. A token is a byte at least, so that only examples whose bytes don't fit are
    tokenised.

    Raises:
        TooLong: the uncuttable part of some examples is too long already; says of how many.
    """
    errors: list[TooLong] = []
    examined = 0
    task.prepare(tokenizer)
    for module, part in _modules(config, task, tokenizer, source, cache):
        if isinstance(module, HeldOut):
            _check_shots(module, config.dataset)
        for split, rows in _picks(module):
            examined += len(rows)
            suspects = _suspects(module, split, rows)
            try:
                if suspects:
                    part.encode(tokenizer, suspects, config.recipe.max_length)
            except TooLong as error:
                errors.append(error)
    if errors:
        where = f" of dataset={config.dataset.name} with the tokens of model={config.model.name}"
        raise TooLong.of_all(errors, total=examined, where=where)


def _check_shots(module: HeldOut, mixture: DatasetConfig) -> None:
    """Raises ConfigError if a row can't have as many answered examples before it as it is to have."""
    split = module.config.dataset.evaluation[0]
    # Enough to meet every template.
    examples = module.rows.examples(split, module.rows.scored(split)[:100])
    for count in filter(None, mixture.held_out_shots or []):
        shots = Shots(module, count, mixture.template_seed or 0)
        for example in examples:
            shots.put_before(example)


def _modules(
    config: RunConfig, task: Task, tokenizer: PreTrainedTokenizerBase, source: DataSource, cache: Path
) -> Iterator[tuple[TaskDataModule, Task]]:
    """The data module of a run with its task; of a mixture, those of each part."""
    parts, held_out = config.dataset.parts or [], config.dataset.held_out or []
    whole = [(config, task, source)]
    every = enumerate([*parts, *held_out])
    each = [
        (replace(config, dataset=p), cast(Mixture | TextMixture, task).parts[i], source.parts[p.name]) for i, p in every
    ]
    for number, (part_config, part_task, files) in enumerate(each or whole):
        kind = HeldOut if each and number >= len(parts) else TaskDataModule
        yield kind(part_config, part_task, tokenizer, source=files, tokenizer_fingerprint="", cache=cache), part_task


def _picks(module: TaskDataModule) -> Iterator[tuple[str, np.ndarray]]:
    """Every split that a run reads, with the numbers of the rows that it takes of it."""
    data, recipe = module.config.dataset, module.config.recipe
    if data.train in module.source.files and not isinstance(module, HeldOut):
        chosen, carved = module.rows.training()
        yield data.train, np.concatenate([chosen, module.rows.first(carved, recipe.eval_samples)])
    for split in data.evaluation:
        if split in module.source.files:
            yield split, module.rows.scored(split)


def _suspects(module: TaskDataModule, split: str, rows: np.ndarray) -> list[Example]:
    """The examples that may be too long, by their bytes."""
    data = module.config.dataset
    if not (data.cut or data.spans or data.choices or data.candidates or data.answers):
        rows = rows[:1]  # Everything may be cut but the template, which is the same for all.
    examples = module.rows.examples(split, rows)
    room = module.config.recipe.max_length - _ADDED - _around(data) - _of_chat(module)
    cuttable = set(data.cut or data.text)
    return [example for example in examples if _fixed(example, cuttable) > room]


def _of_chat(module: TaskDataModule) -> int:
    """Bytes of what the tokenizer's chat format puts around an example, where questions are in it."""
    in_chat = getattr(module.task, "in_chat", False)
    return len(str(module.tokenizer.decode(as_chat(module.tokenizer, ""))).encode()) if in_chat else 0


def _fixed(example: Example, cuttable: set[str]) -> int:
    """Bytes of an example that can't be cut, with the longest of its answers."""
    fields = sum(len(text.encode()) for name, text in example.fields.items() if name not in cuttable)
    marked = sum(len(example.fields[name][first:last].encode()) for name, (first, last) in example.must_stay.items())
    options = sum(len(choice.encode()) + _ADDED for choice in example.choices)
    answers = max((len(text.encode()) for text in example.references or []), default=0)
    return fields + marked + options + answers


def _around(data: DatasetConfig) -> int:
    """Bytes of the templates, prompts and label words that are added to an example, at the most."""
    writing = data.writing.template if data.writing else ""
    longest = max(data.templates or [], key=len, default="")
    texts = [data.template or "", longest, writing, *(data.inputs or []), *(data.verbaliser or [])]
    return sum(len(text.encode()) for text in texts)
