"""How questions are put to a model that writes its answers, where a data set has several templates for them.

Source: Wei et al. (FLAN), arXiv 2109.01652, section 2.1: several templates a data set, one drawn for every example.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from peftbench.data.examples import Example

#: A field of an example beside its columns: no column is called so, for no place in a template can be.
DRAWN = "{number of the template}"

#: What stands between answered examples, and before the question.
BETWEEN = "\n\n"


@dataclass(frozen=True)
class Phrasing:
    """The templates of a data set, which of them an example is put by, and whether in the tokenizer's chat format.

    Attributes:
        name: of the data set.
        templates: texts around `{answer}`.
        seed: what templates are drawn by.
        chat: true, false, or None: where the tokenizer has such a format.
    """

    name: str
    templates: Sequence[str]
    seed: int
    chat: bool | None

    def number(self, example: Example) -> int:
        """The number of the template that an example is put by: the same for a row (of rows that are one question, for
        all of them) in every run with this seed, whatever else is read."""
        unit = example.row if example.group is None else example.group
        digest = hashlib.sha256(f"{self.seed} {self.name} {unit}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % len(self.templates)

    def chats(self, tokenizer: PreTrainedTokenizerBase, family: str) -> bool:
        """True if questions are put in the tokenizer's chat format."""
        return self.chat is not False and has_chat(tokenizer, family)


def has_chat(tokenizer: PreTrainedTokenizerBase, family: str) -> bool:
    """True if a model's tokenizer has a chat format: a template of user's and assistant's turns."""
    return family == "decoder" and bool(getattr(tokenizer, "chat_template", None))


def as_chat(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text as the user's turn, up to where the assistant's answer begins."""
    turns = [{"role": "user", "content": text}]
    whole = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
