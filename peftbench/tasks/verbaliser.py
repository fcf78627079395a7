"""Tasks solved by a language model: the label words are scored where a template asks for the answer.

Source: Schick and Schuetze, arXiv 2001.07676, section 3 (masked models: equation 1, a softmax over the label words'
logits); the same for the next token of a causal model and the first of an encoder-decoder's answer.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import TaskType
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
)

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.batch import Arguments, Batch, lengths
from peftbench.data.examples import Reader
from peftbench.data.readers import reader
from peftbench.data.rows import check_template
from peftbench.data.templates import fill
from peftbench.errors import ConfigError
from peftbench.tasks.fitting import Lines
from peftbench.tasks.head import ScoredLabels
from peftbench.tasks.shared import encoding

ANSWER = "answer"
#: By family: the class of its language models, and peft's name for what they do.
KINDS: dict[str, tuple[Any, TaskType]] = {
    "encoder": (AutoModelForMaskedLM, TaskType.FEATURE_EXTRACTION),
    "decoder": (AutoModelForCausalLM, TaskType.CAUSAL_LM),
    "encoder_decoder": (AutoModelForSeq2SeqLM, TaskType.SEQ_2_SEQ_LM),
}


@dataclass
class InTemplate(ScoredLabels):
    """A way to pose a task that scores an answer where a template asks for it, by a language model.

    Attributes:
        mask: id of the token that holds the answer's place in a masked model's text.
    """

    config: DatasetConfig
    reader: Reader
    family: str
    formulation: str = "verbaliser"
    generates: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)
    mask: int | None = None

    #: The name under which `encoding` knows this way.
    _scheme: ClassVar[str]

    @property
    def auto_model(self) -> Any:
        return KINDS[self.family][0]

    @property
    def peft_type(self) -> TaskType:
        return KINDS[self.family][1]

    @property
    def encoding(self) -> Any:
        return encoding(self.config, self._scheme, self.family)

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ConfigError for a masked model whose tokenizer has no mask."""
        self.mask = tokenizer.mask_token_id
        if self.family == "encoder" and self.mask is None:
            raise ConfigError("formulation=verbaliser: this model's tokenizer has no mask token")


@dataclass
class Verbaliser(InTemplate):
    """One label of several, each a word; words are told apart by the first token in which they differ.

    Attributes:
        words: by label, that token's id; `lead`: ids of the tokens before it, which all label words share (a space,
            with some tokenizers) and which are therefore given to the model.
    """

    words: list[int] = field(default_factory=list)
    lead: list[int] = field(default_factory=list)

    _scheme = "verbaliser"

    @classmethod
    def build(cls, config: RunConfig) -> "Verbaliser":
        """Raises ConfigError for a template or verbaliser that is missing or doesn't fit the data set."""
        data = config.dataset
        label_words(data, "verbaliser")
        read = reader(data)
        check_template("dataset.template", str(data.template), read.fields, once=ANSWER)
        return cls(data, read, config.model.family)

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().prepare(tokenizer)
        assert self.config.verbaliser is not None
        # With its space: the answer follows a word.
        rows = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in self.config.verbaliser]
        shared = 0
        while len({tuple(row[: shared + 1]) for row in rows}) == 1 and all(len(row) > shared + 1 for row in rows):
            shared += 1
        self.lead, self.words = rows[0][:shared], [row[shared] for row in rows]
        if len(set(self.words)) != len(self.words):
            raise ConfigError(f"dataset.verbaliser={self.config.verbaliser}: this tokenizer starts two words alike")

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        return {"input_ids": [self._ids(tokenizer, f) for f in fields]}

    def _ids(self, tokenizer: PreTrainedTokenizerBase, fields: dict[str, str]) -> list[int]:
        assert self.config.template is not None
        ids = place_answer(tokenizer, self.config.template, fields, self.family)
        if self.family == "encoder":
            place = ids.index(self.mask or 0)
            return [*ids[:place], *self.lead, *ids[place:]]
        return ids if self.family == "encoder_decoder" else [*ids, *self.lead]

    def inputs(self, batch: Batch) -> Arguments:
        arguments = super().inputs(batch)
        if self.family == "encoder_decoder":
            # The model shifts these to the right: it is given its start token and `lead`. The last isn't looked at.
            answer = torch.tensor([*self.lead, self.words[0]]).to(batch["input_ids"].device, non_blocking=True)
            arguments["labels"] = answer.repeat(len(batch["input_ids"]), 1)
        if self.family == "decoder":
            arguments |= keep_from(lengths(batch) - 1, batch["input_ids"].shape[1])
        return arguments

    def logits(self, outputs: Any, batch: Batch) -> torch.Tensor:
        scores = outputs.logits
        if self.family == "encoder_decoder":
            place = torch.full((len(scores),), scores.shape[1] - 1, device=scores.device)
        elif self.family == "decoder":
            place = batch["attention_mask"].sum(dim=1) - 1
        else:
            place = batch["input_ids"].eq(self.mask or 0).int().argmax(dim=1)
        # Counted from the end: virtual tokens stand before the text, and a decoder's first positions are left out.
        place = place + (0 if self.family == "encoder_decoder" else scores.shape[1] - batch["input_ids"].shape[1])
        words = torch.tensor(self.words).to(scores.device, non_blocking=True)
        return scores[torch.arange(len(scores), device=scores.device), place][:, words].float()


def keep_from(starts: torch.Tensor, width: int) -> dict[str, Any]:
    """The argument by which a causal model of transformers gives logits at the last positions alone, from the first
    one that any of the sequences is scored at: the output layer is as wide as the vocabulary.

    Args:
        starts: (s,) that position in each sequence, in main memory.
        width: positions of the batch, without virtual tokens, which stand before the text.
    """
    return {"logits_to_keep": width - int(starts.min())}


def label_words(data: DatasetConfig, formulation: str) -> list[str]:
    """The word of every label. Raises ConfigError where they, or the template, are missing or don't fit the labels."""
    if data.template is None or data.verbaliser is None:
        raise ConfigError(f"dataset={data.name}: formulation={formulation} needs dataset.template and .verbaliser")
    if len(data.verbaliser) != len(data.labels or []) or len(set(data.verbaliser)) != len(data.verbaliser):
        raise ConfigError(f"dataset.verbaliser={data.verbaliser}: one word for each of {data.labels}, all different")
    return data.verbaliser


def place_answer(
    tokenizer: PreTrainedTokenizerBase, template: str, fields: dict[str, str], family: str, *, shots: str = ""
) -> list[int]:
    """Token ids of a filled template: an encoder's with a mask in the place of the answer, else what is before it.

    Args:
        shots: answered examples, which stand before the question.
    """
    before, _, after = template.partition(f"{{{ANSWER}}}")
    if family == "encoder":  # A mask that stands in a text is text: the answer has one place.
        mask = str(tokenizer.mask_token)
        fields = {name: text.replace(mask, f"{mask[0]} {mask[1:]}") for name, text in fields.items()}
    before = shots + fill(before, fields).rstrip()
    if family == "encoder":
        return tokenizer(f"{before} {tokenizer.mask_token}{fill(after, fields)}", verbose=False)["input_ids"]
    ids = tokenizer(before, verbose=False)["input_ids"]
    if family == "encoder_decoder":
        return ids
    while ids and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        ids = ids[:-1]  # The answer comes next, not the end.
    return ids
