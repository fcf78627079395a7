"""What goes from data to tasks: token ids of examples, and batches of tensors."""

from dataclasses import dataclass, field
from typing import Any

import torch

Batch = dict[str, torch.Tensor]
#: What a model is called with: tensors, and numbers such as how many logits are kept.
Arguments = dict[str, Any]


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
