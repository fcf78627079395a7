"""Multiple choice by a language model: the choice whose text is likeliest in the template.

A choice's score is the mean log probability of its tokens: a sum would favour short ones. Source: Liu et al. (T-Few),
arXiv 2205.05638, section 3.2 (length normalisation; the loss is L_LN, a cross entropy over the choices' scores).

Masked models are given as many masks as the choice has tokens and asked for all of them at once: Schick and Schuetze,
arXiv 2009.07118, section 3.1, the approximation they train by.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from peftbench.config.types import RunConfig
from peftbench.data.batch import Arguments, Batch, answer_lengths, lengths, width
from peftbench.data.readers import reader
from peftbench.data.rows import check_template
from peftbench.errors import ConfigError
from peftbench.tasks.fitting import Lines
from peftbench.tasks.shared import by_example
from peftbench.tasks.verbaliser import ANSWER, InTemplate, keep_from, place_answer


@dataclass
class Likelihood(InTemplate):
    """One choice of several, by its text's likelihood: (n, most choices), -inf where an example has fewer."""

    pad: int = 0

    _scheme = "likelihood"

    @classmethod
    def build(cls, config: RunConfig) -> "Likelihood":
        """Raises ConfigError for a template that is missing or doesn't fit the data set."""
        data, read = config.dataset, reader(config.dataset)
        if data.template is None:
            raise ConfigError(f"dataset={data.name}: formulation=verbaliser needs dataset.template")
        check_template("dataset.template", data.template, data.text, once=ANSWER)
        return cls(data, read, config.model.family)

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().prepare(tokenizer)
        self.pad = int(tokenizer.pad_token_id)

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        assert self.config.template is not None
        return {"input_ids": [place_answer(tokenizer, self.config.template, f, self.family) for f in fields]}

    def answers(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> list[list[int]]:
        # With its space: the answer follows a word.
        return tokenizer([f" {f['choice']}" for f in fields], add_special_tokens=False)["input_ids"]

    def inputs(self, batch: Batch) -> Arguments:
        """Encoders: the answer's place as wide as the answer; decoders: the answer behind the text; encoder-decoders:
        the answer as labels, which the model shifts to the right and gives its decoder."""
        if self.family == "encoder_decoder":
            return {**super().inputs(batch), "labels": batch["targets"]}
        positions = self._width(batch)
        ids, mask = self._together(batch, positions)
        to_keep = keep_from(lengths(batch) - 1, positions) if self.family == "decoder" else {}
        return {"input_ids": ids, "attention_mask": mask, **to_keep}

    def _width(self, batch: Batch) -> int:
        """Positions of the sequences with their answers in their places."""
        longest = int((lengths(batch) + answer_lengths(batch)).max())
        return width(batch, longest - (0 if self.family == "decoder" else 1))

    def _together(self, batch: Batch, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Every sequence with its answer, and the mask, (s, positions) each."""
        ids, targets, counts = batch["input_ids"], batch["targets"], batch["attention_mask"].sum(dim=1, keepdim=True)
        answers = (targets >= 0).sum(dim=1, keepdim=True)
        places = torch.arange(positions, device=ids.device).expand(len(ids), -1)
        if self.family == "decoder":
            ends = counts + answers
            both = torch.cat([ids, targets], dim=1)
            taken = torch.where(places < counts, places, places - counts + ids.shape[1])
        else:  # The mask stands once for every token of the answer.
            ends, place = counts + answers - 1, self._starts(batch)[:, None]
            both, after = ids, places - answers + 1
            taken = torch.where(places < place, places, torch.where(after > place, after, place))
        mask = places < ends
        joined = both.gather(1, taken.clamp(0, both.shape[1] - 1))
        return joined.masked_fill(~mask, self.pad), mask.long()

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        log_probabilities, real = self.log_probabilities(outputs, batch)
        return by_example((log_probabilities * real).sum(dim=1) / real.sum(dim=1), batch)

    def log_probabilities(self, outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(s, longest answer) log probabilities of the answers' tokens in 32 bits, and which of them are tokens."""
        targets, scores = batch["targets"], outputs.logits
        real = targets >= 0
        places = torch.arange(targets.shape[1], device=scores.device).expand_as(targets)
        if self.family != "encoder_decoder":
            positions = self._width(batch)
            # Counted from the end: virtual tokens stand before the text, and a decoder's first positions are left out.
            # A causal model says the next token.
            places = places + self._starts(batch)[:, None] + scores.shape[1] - positions
        lines = torch.arange(len(targets), device=scores.device)[:, None]
        each = scores[lines, places.clamp(max=scores.shape[1] - 1)].float().log_softmax(dim=-1)
        return each.gather(2, targets.clamp(min=0)[..., None])[..., 0], real

    def _starts(self, batch: Batch) -> torch.Tensor:
        """(s,) where the first token of the answer is told."""
        if self.family == "decoder":
            return batch["attention_mask"].sum(dim=1) - 1
        return batch["input_ids"].eq(self.mask or 0).int().argmax(dim=1)


def of_all_tokens(
    scores: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any
) -> torch.Tensor:
    """The losses of all tokens of texts that another stands before, by a causal model.

    Args:
        scores: (n, virtual tokens and length, vocabulary) logits; input_ids, attention_mask: (n, length).
    """
    real = attention_mask[:, 1:].bool()
    own = scores[:, scores.shape[1] - input_ids.shape[1] : -1][real]
    return torch.nn.functional.cross_entropy(own.float(), input_ids[:, 1:][real], reduction="none")
