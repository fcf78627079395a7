"""What goes from data to tasks: token ids of examples, and batches of tensors."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

Batch = dict[str, torch.Tensor]
#: What a model is called with: tensors, and numbers such as how many logits are kept.
Arguments = dict[str, Any]
#: Of a collated batch what stays in main memory, whatever the device: what shapes are decided by. Reading that from a
#: GPU would wait for all that it was given to do.
HOST = ("lengths", "answers", "sequences", "part", "widths")
#: What padded targets hold, and no loss counts.
IGNORED = -100
#: The tensors of a batch with one line per sequence; the others have one per example.
_SEQUENCES = ("input_ids", "attention_mask", "token_type_ids", "targets", "lengths", "answers")


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, but for `HOST`. From pinned memory it is copied beside what the device does."""
    return {k: v if k in HOST else v.to(device, non_blocking=True) for k, v in batch.items()}


def lengths(batch: Batch) -> torch.Tensor:
    """(s,) tokens of every sequence, in main memory; counted on the device only where nobody collated the batch."""
    return batch["lengths"] if "lengths" in batch else batch["attention_mask"].sum(dim=1).cpu()


def width(batch: Batch, longest: int) -> int:
    """Positions that sequences of so many tokens at the most are given: a GPU's batches say what that is a multiple of,
    and how many there may be (`widths`)."""
    if "widths" not in batch:
        return longest
    multiple, most = batch["widths"].tolist()
    return max(longest, min(-(-longest // multiple) * multiple, most))


def answer_lengths(batch: Batch) -> torch.Tensor:
    """(s,) tokens of every sequence's answer, in main memory, as `lengths`."""
    return batch["answers"] if "answers" in batch else (batch["targets"] >= 0).sum(dim=1).cpu()


def part(batch: Batch, start: int, stop: int) -> Batch:
    """The examples from `start` to `stop` of a collated batch, with all their sequences and no needless padding."""
    first, last = start, stop
    if "sequences" in batch:
        ends = [0, *batch["sequences"].cumsum(0).tolist()]
        first, last = ends[start], ends[min(stop, len(ends) - 1)]
    whole = {k: v for k, v in batch.items() if k == "widths"}
    rest = {k: v for k, v in batch.items() if k not in whole}
    return trim({**{k: v[first:last] if k in _SEQUENCES else v[start:stop] for k, v in rest.items()}, **whole})


def widened(batch: Batch, pad: int, *, multiple: int, most: int) -> Batch:
    """A collated batch with more padding: as many positions as a multiple, or `most`."""
    batch = {**batch, "widths": torch.tensor([multiple, most])}
    further = width(batch, batch["input_ids"].shape[1]) - batch["input_ids"].shape[1]
    fill = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
    return {k: F.pad(v, (0, further), value=fill[k]) if k in fill else v for k, v in batch.items()}


def trim(batch: Batch) -> Batch:
    """Cut padding columns that no sequence of the batch needs; only a part of a collated batch has them."""
    longest = width(batch, int(lengths(batch).max()))
    answer = int(answer_lengths(batch).max()) if "targets" in batch else 0
    widths = {name: answer if name == "targets" else longest for name in _SEQUENCES}
    # Contiguous: T5's own loss takes a view of its labels.
    return {k: v[:, : widths[k]].contiguous() if k in _SEQUENCES and v.dim() > 1 else v for k, v in batch.items()}


def tokens(batch: Batch) -> tuple[torch.Tensor, int]:
    """Real tokens of a batch, left on its device, and all with padding."""
    real, size = batch["attention_mask"].sum(), batch["attention_mask"].numel()
    if "targets" in batch:
        real, size = real + batch["targets"].ne(IGNORED).sum(), size + batch["targets"].numel()
    return real, size


@dataclass
class Inputs:
    """Examples as token ids: s sequences, in the order of their examples.

    Attributes:
        input_ids: s lists; `token_type_ids` the same, or empty where the model has none.
        targets: s lists, the answers' ids; empty where answers are labels.
        sequences: by example, how many it has; empty where each has one.
        cut: how many examples were cut.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    token_type_ids: list[list[int]] = field(default_factory=list)
    targets: list[list[int]] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    cut: int = 0

    def extend(self, other: "Inputs") -> None:
        """Add what follows."""
        self.input_ids += other.input_ids
        self.token_type_ids += other.token_type_ids
        self.targets += other.targets
        self.sequences += other.sequences
        self.cut += other.cut
