"""What goes from data to tasks: token ids of examples, and batches of tensors."""

from dataclasses import dataclass, field
from typing import Any

import torch

Batch = dict[str, torch.Tensor]
#: What a model is called with: tensors, and numbers such as how many logits are kept.
Arguments = dict[str, Any]
#: Of a collated batch what stays in main memory, whatever the device: what shapes are decided by. Reading that from a
#: GPU would wait for all that it was given to do.
HOST = ("lengths", "answers", "sequences", "part", "widths")


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
