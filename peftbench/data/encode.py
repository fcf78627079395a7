"""Tokenised examples: made once, kept in a file, read back in milliseconds."""

import functools
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from peftbench.config import paths
from peftbench.data.batch import IGNORED, Batch, Inputs
from peftbench.data.examples import NO_LABEL, Example, Reader
from peftbench.errors import TooLong
from peftbench.system import cached, files, fingerprint

_CHUNK = 2000


class Encodes(Protocol):
    """The part of a task that encodes its examples; the rest of it (`tasks.base.Task`) is no matter of data."""

    @property
    def reader(self) -> Reader:
        """The reader that makes examples of rows."""
        ...

    @property
    def encoding(self) -> Any:
        """JSON value of what decides `encode`, besides the examples and the tokenizer."""
        ...

    @property
    def generates(self) -> bool:
        """True if answers are texts that the model writes (`tasks.base.Generating`): what is trained on is then encoded
        otherwise."""
        ...

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Called once, before anything is encoded. Raises ConfigError if the tokenizer can't express the task."""
        ...

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool = False
    ) -> Inputs:
        """Token ids of examples, none longer than `max_length`, to train on or (the same, unless answers are written)
        to score. Raises ConfigError if what mustn't be cut is longer."""
        ...


@dataclass(frozen=True)
class Encoded(Dataset[int]):
    """n examples of s sequences in all (one each, but where several answers are compared), as flat rows of token ids.

    Attributes:
        tokens: (sum of lengths,) int32.
        types: token type ids of the same shape, or None where the model has none.
        offsets: (s + 1,) int64; sequence j is `tokens[offsets[j]:offsets[j + 1]]`.
        labels: (n,) int64, or for regression float32, float64 where that tells no two of them apart.
        rows: (n,) int64, each example's row in the split's file.
        truncated: how many examples were cut to the maximum length.
        pad: the id that pads.
        firsts: (n + 1,) int64; example i has the sequences `firsts[i]` to `firsts[i + 1]`. None: one each.
        targets, target_offsets: token ids of the answer, a sequence each, as `tokens`; None where answers are labels.
        groups: (n,) int64, equal where examples are scored together; None: each alone.
        references: by example the right answers as text, where scoring compares texts.
        candidates: by example the answer it proposes, where a group's best one is scored.
    """

    tokens: torch.Tensor
    types: torch.Tensor | None
    offsets: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    truncated: int
    pad: int
    firsts: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    target_offsets: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    references: list[list[str]] | None = None
    candidates: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> int:
        """The index itself: `collate` gathers a whole batch at once."""
        return index

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) tokens of every example, its answer's included; of its longest sequence, where it has several."""
        each = self.offsets.diff()
        if self.target_offsets is not None:
            each = each + self.target_offsets.diff()
        if self.firsts is None:
            return each
        counts = self.firsts.diff()
        owners = torch.repeat_interleave(torch.arange(len(counts)), counts)
        return torch.zeros(len(counts), dtype=torch.int64).scatter_reduce(0, owners, each, "amax")

    @property
    def hidden(self) -> bool:
        """True if the labels are kept secret: the examples can be answered, not scored."""
        if self.candidates is not None:
            return self.references is None
        return self.references is None and bool((self.labels == NO_LABEL).all())

    @property
    def row_count(self) -> int:
        """Counts the rows of the data that the examples come from."""
        return len(self.rows.unique())

    def collate(self, indices: Sequence[int]) -> Batch:
        """A batch, padded on the right to its own longest sequence.

        Returns:
            input_ids, attention_mask (and token_type_ids): (sequences, longest); labels, index: (n,). Where examples
            have answers of tokens: targets (sequences, longest answer), padded with -100. Where they have several
            sequences: sequences (n,), how many, an example's following each other. lengths and answers (sequences,):
            the tokens of each sequence and its answer.
        """
        chosen = torch.as_tensor(list(indices))
        labels = self.labels[chosen]
        batch: Batch = {"labels": labels.float() if labels.is_floating_point() else labels, "index": chosen}
        lines: Sequence[int] = indices
        if self.firsts is not None:
            lines = [line for i in indices for line in range(int(self.firsts[i]), int(self.firsts[i + 1]))]
            batch["sequences"] = self.firsts.diff()[chosen]
        ids, counts = _padded(self.tokens, self.offsets, lines, self.pad)
        mask = (torch.arange(ids.shape[1]) < counts[:, None]).long()
        batch |= {"input_ids": ids, "attention_mask": mask, "lengths": counts}
        if self.types is not None:
            batch["token_type_ids"] = _padded(self.types, self.offsets, lines, 0)[0]
        if self.targets is not None and self.target_offsets is not None:
            batch["targets"], batch["answers"] = _padded(self.targets, self.target_offsets, lines, IGNORED)
        return batch


def _padded(
    flat: torch.Tensor, offsets: torch.Tensor, lines: Sequence[int], value: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some lines of a flat row, (lines, longest), and their lengths."""
    spans = [slice(*offsets[j : j + 2].tolist()) for j in lines]
    counts = torch.tensor([span.stop - span.start for span in spans])
    return pad_sequence([flat[span].long() for span in spans], batch_first=True, padding_value=value), counts


def encode(
    task: Encodes,
    tokenizer: PreTrainedTokenizerBase,
    *,
    read: Callable[[], list[Example]],
    max_length: int,
    cache: Path,
    identity: object,
    training: bool = False,
) -> Encoded:
    """Tokenise examples, or read them from the cache.

    Args:
        read: gives the examples; called only if they aren't cached.
        cache: folder of tokenised sets.
        identity: JSON value that says what the examples are (data and tokenizer fingerprint, split, rows, task).
        training: whether they are trained on, or scored.
    """
    # The same unless answers are written.
    named = [identity, max_length, code(), training and task.generates]
    file = cache / "tokens" / f"{fingerprint.of_json(named)[:24]}.safetensors"
    stored = _cached(file, lambda: _tokenise(task, tokenizer, read(), max_length, training=training))
    names = {"references", "candidates", "truncated"}
    return Encoded(
        **{name: stored.get(name) for name in (*_REQUIRED, *_OPTIONAL) if name not in names},  # type: ignore[arg-type]
        references=_from_bytes(stored.get("references")),
        candidates=_from_bytes(stored.get("candidates")),
        truncated=int(stored["truncated"]),
        pad=int(tokenizer.pad_token_id),
    )


@functools.cache
def code() -> list[str]:
    """Hash and versions of all code that reads and tokenises: this package, and the tokenizers' libraries."""
    libraries = [importlib.metadata.version(name) for name in ("transformers", "tokenizers")]
    return [fingerprint.of_code(paths.PACKAGE), *libraries]


_REQUIRED = ("tokens", "offsets", "labels", "rows", "truncated")
_OPTIONAL = ("types", "firsts", "targets", "target_offsets", "groups", "references", "candidates")


def _tokenise(
    task: Encodes, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool
) -> dict[str, torch.Tensor]:
    inputs = Inputs()
    long: list[TooLong] = []
    for start in range(0, len(examples), _CHUNK):
        try:
            inputs.extend(task.encode(tokenizer, examples[start : start + _CHUNK], max_length, training=training))
        except TooLong as error:  # All are counted before it is said.
            long.append(error)
    if long:
        raise TooLong.of_all(long, total=len(examples))
    tensors = {
        **_flat(inputs.input_ids, "tokens", "offsets", torch.int32),
        "labels": _labels([example.label for example in examples]),
        "rows": torch.tensor([example.row for example in examples], dtype=torch.int64),
        "truncated": torch.tensor(inputs.cut),
    }
    if inputs.token_type_ids:
        tensors["types"] = _flat(inputs.token_type_ids, "types", "offsets", torch.int8)["types"]
    if inputs.targets:
        tensors |= _flat(inputs.targets, "targets", "target_offsets", torch.int32)
    if inputs.sequences:
        tensors["firsts"] = torch.tensor([0, *np.cumsum(inputs.sequences)], dtype=torch.int64)
    if any(example.group is not None for example in examples):
        tensors["groups"] = torch.tensor([example.group for example in examples], dtype=torch.int64)
    if any(example.references for example in examples):
        tensors["references"] = _to_bytes([example.references for example in examples])
    if any(example.candidate is not None for example in examples):
        tensors["candidates"] = _to_bytes([example.candidate for example in examples])
    return tensors


def _labels(values: list[int | float]) -> torch.Tensor:
    """(n,) int64, or float32; float64 where 32 bits can't tell numbers apart that differ (1234567890 and the next)."""
    labels = torch.tensor(values)
    if labels.is_floating_point() and len(labels.unique()) < len(set(values)):
        return torch.tensor(values, dtype=torch.float64)
    return labels


def _flat(lines: list[list[int]], name: str, offsets: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor([token for line in lines for token in line], dtype=dtype),
        offsets: torch.tensor([0, *np.cumsum([len(line) for line in lines])], dtype=torch.int64),
    }


def _to_bytes(value: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _from_bytes(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else json.loads(tensor.numpy().tobytes())


def _cached(file: Path, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A cache entry's tensors, made where it isn't there or doesn't hold. Two runs may do so at once; a full disk costs
    the file alone."""
    stored = cached.read(file, load_file)
    if stored is not None:
        return stored
    tensors = make()
    with files.spared(f"tokens in {file}", []):
        cached.write(file, lambda temporary: save_file(tensors, temporary))
    return tensors
