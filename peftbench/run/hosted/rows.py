"""A hosted run's rows: those that any other run trains on and is scored on, as chats."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from peftbench.config.types import RunConfig
from peftbench.data.batch import Inputs
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.examples import Example, Reader
from peftbench.data.sources import DataSource
from peftbench.run.hosted.check import method_of, settings
from peftbench.tasks.table import build as build_task
from peftbench.tasks.text import Text

#: One message after the other, as the interface has them: {"role": ..., "content": ...}.
Chat = list[dict[str, str]]

_LISTED = "Answer with exactly one of the following, as it is written here, and with nothing else: {}"
_FREE = "Answer with the missing text alone, and with nothing before or after it."


@dataclass(frozen=True)
class Rows:
    """The rows that a hosted run sends.

    Attributes:
        data: the run's data, whose slices have labels and rows, and no tokens.
        task: how answers are scored.
        training: by training row a chat with its answer; empty where nothing is trained.
        asked: by slice, by example, the chat that is to be answered.
    """

    data: TaskDataModule
    task: Text
    training: list[Chat]
    asked: dict[str, list[Chat]]

    @property
    def questions(self) -> list[Chat]:
        """The different chats that are to be answered, each once."""
        return list({name(chat): chat for chats in self.asked.values() for chat in chats}.values())


def name(chat: Chat) -> str:
    """A chat as one line of JSON, by which equal ones are one question."""
    return json.dumps(chat, ensure_ascii=False)


def load(config: RunConfig, source: DataSource, cache: Path) -> Rows:
    """Read and pose the rows of a run."""
    task = cast(Text, build_task(config))
    method = method_of(config)
    untokenised, tokenizer = cast(Any, _Untokenised(task)), cast(Any, None)
    data = TaskDataModule(config, untokenised, tokenizer, source=source, tokenizer_fingerprint="", cache=cache)
    chosen, carved = data.rows.training()
    data.carved = len(carved)
    examples = data.rows.examples(config.dataset.train, chosen)
    data.train = _encoded(examples)
    data.slices |= {"train": None, "selection": None}
    asked: dict[str, list[Chat]] = {}
    system = settings(config).system or _system(task)
    shown = _shown(examples, method.shots, config.seed)
    start = [{"role": "system", "content": system}, *(m for e in shown for m in _answered(task, e))]
    for split in config.dataset.evaluation:
        scored = data.rows.examples(split, data.rows.scored(split)) if split in source.files else None
        data.slices[split] = None if scored is None else _encoded(scored)
        if scored is not None:
            asked[split] = [[*start, _user(task, example)] for example in scored]
    training = [[start[0], *_answered(task, example)] for example in examples] if method.tunes else []
    return Rows(data, task, training, asked)


def _system(task: Text) -> str:
    """The system message before every question, unless the configuration says otherwise."""
    return _LISTED.format(", ".join(task.words)) if task.words and not _choices(task) else _FREE


def _choices(task: Text) -> bool:
    return task.config.task == "multiple_choice"


def _user(task: Text, example: Example) -> dict[str, str]:
    return {"role": "user", "content": task.question(example)}


def _answered(task: Text, example: Example) -> Chat:
    """A question with its right answer."""
    return [_user(task, example), {"role": "assistant", "content": task.right(example)}]


def _shown(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """The answered examples of a prompt, drawn by the run's seed."""
    if not count:
        return []
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:count]]


def _encoded(examples: Sequence[Example]) -> Encoded:
    """Examples without tokens: what is scored, and what footnotes say of it, need none."""
    groups = [example.group for example in examples]
    return Encoded(
        tokens=torch.zeros(0, dtype=torch.int32),
        types=None,
        offsets=torch.zeros(len(examples) + 1, dtype=torch.int64),
        labels=torch.tensor([example.label for example in examples]),
        rows=torch.tensor([example.row for example in examples], dtype=torch.int64),
        truncated=0,
        pad=0,
        groups=None if any(group is None for group in groups) else torch.tensor(groups),
        references=[e.references for e in examples] if any(e.references for e in examples) else None,
    )


@dataclass(frozen=True)
class _Untokenised:
    """A task for data that aren't tokenised: the server does that."""

    task: Text
    encoding: None = None
    generates: bool = True

    @property
    def reader(self) -> Reader:
        return self.task.reader

    def prepare(self, tokenizer: Any) -> None:
        """Nothing to do."""

    def encode(self, tokenizer: Any, examples: list[Example], max_length: int, *, training: bool = False) -> Inputs:
        raise NotImplementedError("a hosted model's server tokenises")
