"""Tokenised examples: made once, kept in a file, read back in milliseconds."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from peftbench import fingerprint
from peftbench.tasks.base import Batch, Task

_CHUNK = 2000


@dataclass(frozen=True)
class Encoded(Dataset[int]):
    """Examples as one flat row of token ids.

    Attributes:
        tokens: (sum of lengths,) int32.
        types: token type ids of the same shape, or None where the model has none.
        offsets: (n + 1,) int64; example i is `tokens[offsets[i]:offsets[i + 1]]`.
        labels: (n,) int64.
        rows: (n,) int64, each example's row in the split's file.
        truncated: how many examples were cut to the maximum length.
        pad: id and side of padding.
    """

    tokens: torch.Tensor
    types: torch.Tensor | None
    offsets: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    truncated: int
    pad: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> int:
        """The index itself: `collate` gathers a whole batch at once."""
        return index

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) tokens of every example."""
        return self.offsets.diff()

    def first(self, count: int) -> "Encoded":
        """The first `count` examples."""
        end = int(self.offsets[count])
        return dataclasses.replace(
            self,
            tokens=self.tokens[:end],
            types=None if self.types is None else self.types[:end],
            offsets=self.offsets[: count + 1],
            labels=self.labels[:count],
            rows=self.rows[:count],
        )

    def collate(self, indices: Sequence[int]) -> Batch:
        """A batch, padded on the right to its own longest example.

        Returns:
            input_ids, attention_mask (and token_type_ids): (n, longest); labels, index: (n,).
        """
        spans = [slice(*self.offsets[i : i + 2].tolist()) for i in indices]
        lengths = torch.tensor([span.stop - span.start for span in spans])
        ids = pad_sequence([self.tokens[span].long() for span in spans], batch_first=True, padding_value=self.pad)
        batch = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
        if self.types is not None:
            batch["token_type_ids"] = pad_sequence([self.types[span].long() for span in spans], batch_first=True)
        chosen = torch.as_tensor(list(indices))
        return {**batch, "labels": self.labels[chosen], "index": chosen}


def trim(batch: Batch) -> Batch:
    """Cut padding columns that no example of the batch needs; only a part of a collated batch has them."""
    longest = int(batch["attention_mask"].sum(dim=1).max())
    return {k: v[:, :longest] if v.ndim == 2 and k in _PADDED else v for k, v in batch.items()}


_PADDED = ("input_ids", "attention_mask", "token_type_ids")


def encode(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    texts: list[list[str]],
    labels: list[int],
    rows: np.ndarray,
    max_length: int,
    cache: Path,
    identity: object,
) -> Encoded:
    """Tokenise examples, or read them from the cache.

    Args:
        texts: one list of n strings a text column.
        rows: (n,) their rows in the split's file.
        cache: folder of tokenised sets.
        identity: JSON value that says what `texts` are (data and tokenizer fingerprint, split, columns, task).
    """
    name = fingerprint.of_json([identity, max_length, rows.tolist()])[:24]
    file = cache / "tokens" / f"{name}.safetensors"
    if not file.is_file():
        _save(file, _tokenise(task, tokenizer, texts, max_length))
    kept = load_file(file)
    return Encoded(
        tokens=kept["tokens"],
        types=kept.get("types"),
        offsets=kept["offsets"],
        labels=torch.tensor(labels, dtype=torch.int64),
        rows=torch.as_tensor(rows, dtype=torch.int64),
        truncated=int(kept["truncated"]),
        pad=int(tokenizer.pad_token_id),
    )


def _tokenise(
    task: Task, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
) -> dict[str, torch.Tensor]:
    ids: list[list[int]] = []
    types: list[list[int]] = []
    truncated = 0
    for start in range(0, len(texts[0]), _CHUNK):
        part = [column[start : start + _CHUNK] for column in texts]
        encoded, cut = task.encode(tokenizer, part, max_length)
        ids += encoded["input_ids"]
        types += encoded.get("token_type_ids", [])
        truncated += cut
    tensors = {
        "tokens": torch.tensor([token for row in ids for token in row], dtype=torch.int32),
        "offsets": torch.tensor([0, *np.cumsum([len(row) for row in ids])], dtype=torch.int64),
        "truncated": torch.tensor(truncated),
    }
    if types:
        tensors["types"] = torch.tensor([token for row in types for token in row], dtype=torch.int8)
    return tensors


def _save(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Whole or not at all: two runs may tokenise the same set at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(tensors, temporary)
    os.replace(temporary, file)
