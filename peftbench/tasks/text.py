"""Tasks whose answer the model writes: generation, and labels and choices as text. Decoders and encoder-decoders.

Trained on the answer's tokens alone, its end included (cross entropy, a mean over all tokens of a global batch), or
(`recipe.loss_on=all`) on the question's too; answered by greedy or beam search. Source: Raffel et al. (T5), arXiv
1910.10683, sections 2.3 and 2.4: every task as text, and an answer that is no label counts as wrong.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.batch import Arguments, Batch, Inputs, answer_lengths, lengths
from peftbench.data.encode import Encoded
from peftbench.data.examples import NO_LABEL, Example, Reader
from peftbench.data.held_out import SHOTS
from peftbench.data.readers import reader
from peftbench.data.rows import check_template
from peftbench.data.templates import fill
from peftbench.errors import ConfigError, NotApplicable
from peftbench.tasks.base import Answered
from peftbench.tasks.fitting import Lines
from peftbench.tasks.likelihood import Likelihood, of_all_tokens
from peftbench.tasks.phrasing import BETWEEN, DRAWN, Phrasing, as_chat, has_chat
from peftbench.tasks.shared import encoding, numbers
from peftbench.tasks.verbaliser import ANSWER, label_words, place_answer

_LETTERS = [chr(ord("A") + i) for i in range(26)]
#: The field of templates that lists what is chosen from.
OPTIONS = "options"
#: What stands for an answer that words follow.
_GAP = "____"
#: What of a data set's `generation` or `writing` `generate` is called with.
_GENERATION = ("max_new_tokens", "num_beams", "length_penalty")


@dataclass
class Text(Likelihood):
    """The model writes the answer.

    Attributes:
        words: of labels their words, of choices their letters; none where any text may be written; `forms`: of each
            how it is written.
        generation: arguments of `generate`.
        template: the text around `{answer}`; `writing`: how answers are written, where the data set says so.
        phrasing: several templates for it; None: `template` is the one.
        loss_on_all: whether the question's tokens are learnt too; `in_chat`: whether questions are in chat format.
    """

    formulation: str = "text"
    generates: bool = True
    words: list[str] = field(default_factory=list)
    forms: list[set[str]] = field(default_factory=list)
    template: str = ""
    writing: Any = None
    phrasing: Phrasing | None = None
    loss_on_all: bool = False
    in_chat: bool = False
    generation: dict[str, Any] = field(default_factory=dict)
    tokenizer: Any = None
    end: int = 0

    @classmethod
    def build(cls, config: RunConfig) -> "Text":
        """Raises NotApplicable for an encoder; ConfigError for what the data set lacks."""
        data, read = config.dataset, cls.read(config.dataset)
        if config.model.family == "encoder":
            raise NotApplicable(
                f"model={config.model.name}: an encoder writes no text; dataset={data.name} with formulation=text "
                "needs a decoder or an encoder_decoder"
            )
        words, template, writing = cls.check(data)
        fields = [name for name in read.fields if name != "choice"]
        check_template("dataset.template", template, fields, once=ANSWER)
        on_all = config.recipe.loss_on == "all"
        if on_all and config.model.family != "decoder":
            raise ConfigError(f"recipe.loss_on=all: model={config.model.name} writes answers alone; allowed is answer")
        asked = {"words": words, "template": template, "writing": writing, "loss_on_all": on_all}
        return cls(data, read, config.model.family, **asked)

    @classmethod
    def read(cls, data: DatasetConfig) -> Reader:
        """The reader that turns rows into examples."""
        return reader(data)

    @classmethod
    def check(cls, data: DatasetConfig) -> tuple[list[str], str, Any]:
        """Words, template and how it is written (None: as long as the longest word), or ConfigError."""
        words = _words(data)
        if data.template is None:
            raise ConfigError(f"dataset={data.name}: formulation=text needs dataset.template")
        return words, data.template, data.generation

    @property
    def encoding(self) -> Any:
        if self.phrasing is None:
            return encoding(self.config, "text", self.family)
        return encoding(self.config, "text", self.family, asdict(self.phrasing))

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().prepare(tokenizer)
        self.tokenizer = tokenizer
        if self.phrasing is not None:
            self.in_chat = self.phrasing.chats(tokenizer, self.family)
            if self.phrasing.chat and not has_chat(tokenizer, self.family):
                raise ConfigError("dataset.chat=true: this model's tokenizer has no chat format; allowed is false")
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            raise ConfigError("formulation=text: this model's tokenizer has no token that ends a text")
        self.end = int(end)
        if self.words:
            self._check_words()
        limit = asdict(self.writing) if self.writing else {"max_new_tokens": max(map(len, self._ids(self.words)))}
        limit = {name: value for name, value in limit.items() if name in _GENERATION}
        limit.setdefault("num_beams", 1)
        if limit["num_beams"] == 1:
            limit.pop("length_penalty", None)
        self.generation = {**limit, "do_sample": False, "pad_token_id": self.pad, "eos_token_id": self.end}

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of whole answers. A decoder's follow a word, with their space, or begin its turn in a chat; an
        encoder-decoder's stand alone, with what its tokenizer puts around a text."""
        if self.family == "encoder_decoder":
            lines = self.tokenizer(texts, verbose=False)["input_ids"]
        else:
            space = "" if self.in_chat else " "
            lines = self.tokenizer([f"{space}{text}" for text in texts], add_special_tokens=False, verbose=False)[
                "input_ids"
            ]
        return [[*(ids[:-1] if ids and ids[-1] == self.end else ids), self.end] for ids in lines]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool = False
    ) -> Inputs:
        return super().encode(tokenizer, [self._asked(example) for example in examples], max_length, training=training)

    def _asked(self, example: Example) -> Example:
        """One sequence, with its answer and its choices as fields. Raises ConfigError for more than have letters."""
        if len(example.choices) > len(_LETTERS):
            count = f"row {example.row} has {len(example.choices)}"
            raise ConfigError(f"dataset.choices: {count}; formulation=text has letters for {len(_LETTERS)}")
        options = " ".join(f"({letter}) {text}" for letter, text in zip(_LETTERS, example.choices, strict=False))
        drawn = {} if self.phrasing is None else {DRAWN: str(self.phrasing.number(example))}
        fields = {**example.fields, ANSWER: self.right(example), OPTIONS: options, **drawn}
        return replace(example, fields=fields, choices=[])

    def right(self, example: Example) -> str:
        """The answer's text; empty where it is hidden."""
        if self.words:
            return "" if example.label == NO_LABEL else self.words[int(example.label)]
        return example.references[0]

    def question(self, example: Example) -> str:
        """An example as a person would be asked: the template up to the answer, or with a gap in its place where words
        follow."""
        fields = self._asked(example).fields
        before, _, after = self._template(fields).partition(f"{{{ANSWER}}}")
        asked = fill(before, fields).rstrip()
        return f"{asked} {_GAP}{fill(after, fields)}" if any(map(str.isalnum, after)) else asked

    def demonstration(self, example: Example, asked: Example) -> str:
        """An example with its answer, put by the template of the one that is asked behind it."""
        fields = self._asked(example).fields | {DRAWN: self._asked(asked).fields.get(DRAWN, "0")}
        before, _, _ = self._template(fields).partition(f"{{{ANSWER}}}")
        return f"{fill(before, fields).rstrip()} {fields[ANSWER]}{BETWEEN}"

    def _template(self, fields: dict[str, str]) -> str:
        """The text around `{answer}`; of a choice with what is chosen from."""
        template = self.template if self.phrasing is None else self.phrasing.templates[int(fields[DRAWN])]
        if self.config.task != "multiple_choice" or f"{{{OPTIONS}}}" in template:
            return template
        return template.replace(f"{{{ANSWER}}}", f"{{{OPTIONS}}} {{{ANSWER}}}")

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        return {"input_ids": [self._question_ids(tokenizer, f) for f in fields]}

    def _question_ids(self, tokenizer: PreTrainedTokenizerBase, fields: dict[str, str]) -> list[int]:
        template, shots = self._template(fields), fields.get(SHOTS, "")
        if self.in_chat:
            before, _, _ = template.partition(f"{{{ANSWER}}}")
            return as_chat(tokenizer, shots + fill(before, fields).rstrip())
        return place_answer(tokenizer, template, fields, self.family, shots=shots)

    def answers(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> list[list[int]]:
        return self._ids([f[ANSWER] for f in fields])

    def shortened(self, answer: list[int]) -> list[int]:
        limit = self.generation["max_new_tokens"]
        return answer if len(answer) <= limit else [*answer[: limit - 1], self.end]

    def room(self, answers: list[list[int]], *, training: bool) -> list[int]:
        """A decoder's answer follows its prompt: when scored, for the longest that may be written, so that the prompt
        tells nothing of the right one. An encoder-decoder's stands apart."""
        if self.family == "encoder_decoder":
            return [0] * len(answers)
        return [len(ids) if training else self.generation["max_new_tokens"] for ids in answers]

    def terms(self, batch: Batch) -> int:
        answers = int(answer_lengths(batch).sum())
        # The first token of a text isn't told by any other.
        return answers + int((lengths(batch) - 1).sum()) if self.loss_on_all else answers

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        if self.loss_on_all:
            return of_all_tokens(outputs.logits, **super().inputs(batch))
        log_probabilities, _ = self.log_probabilities(outputs, batch)
        # By places, which main memory knows: how many a mask chooses is known to the device alone.
        real = torch.arange(log_probabilities.shape[1]) < answer_lengths(batch)[:, None]
        places = (x.to(log_probabilities.device, non_blocking=True) for x in real.nonzero(as_tuple=True))
        return -log_probabilities[tuple(places)]

    def inputs(self, batch: Batch) -> Arguments:
        arguments = super().inputs(batch)
        if self.loss_on_all:  # The output layer is then needed at every position.
            arguments.pop("logits_to_keep")
        return arguments

    def answer_places(self, batch: Batch) -> torch.Tensor:
        """(n,) positions, in what `inputs` gives a model to read, that the answer begins at, or would."""
        return batch["attention_mask"].sum(dim=1) - int(self.family != "decoder")

    def prompt(self, batch: Batch) -> Batch:
        """A decoder goes on where its text ends: padded on the left."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self.family == "decoder":
            places = torch.arange(ids.shape[1], device=ids.device) + mask.sum(dim=1, keepdim=True)
            ids, mask = (part.gather(1, places % ids.shape[1]) for part in (ids, mask))
        return {"input_ids": ids, "attention_mask": mask}

    def generation_of(self, part: int) -> dict[str, Any]:
        """Arguments of `generate` for a part of a mixture; a task by itself is its only one."""
        return self.generation

    def decode(self, ids: torch.Tensor, batch: Batch) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(self._new(ids, batch), skip_special_tokens=True)]

    def written(self, ids: torch.Tensor, batch: Batch) -> int:
        new = self._new(ids, batch)
        return int((new.ne(self.pad) & new.ne(self.end)).sum())

    def _new(self, ids: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The new ids, without what `generate` was given: a decoder's prompt, an encoder-decoder's start token."""
        return ids[:, batch["input_ids"].shape[1] if self.family == "decoder" else 1 :]

    def answered(self, predictions: Any, examples: Encoded) -> Answered:
        if self.words:
            labels = examples.labels.numpy()
            answers = [self._label(text, int(right)) for text, right in zip(predictions, labels, strict=True)]
            return Answered(np.array(answers), labels, numbers(examples))
        return Answered(*questions(predictions, examples))

    def _label(self, text: str, right: int) -> int:
        """The label that a text says, in another case too where only one does then; of a text that says none another
        than the right one."""
        named = self._labels_of(text)
        return named[0] if len(named) == 1 else (right + 1) % len(self.words)

    def _labels_of(self, text: str) -> list[int]:
        """The labels whose word a text is, letter by letter; else those whose word it is in another case."""
        answer = _in_line(text)
        forms = self.forms or [{_in_line(word)} for word in self.words]
        exact = [label for label, spellings in enumerate(forms) if answer in spellings]
        folded = [label for label, spellings in enumerate(forms) if answer.casefold() in map(str.casefold, spellings)]
        return exact or folded

    def _check_words(self) -> None:
        """Raises ConfigError for words that this tokenizer doesn't tell apart, or can't write."""
        written = self.tokenizer.batch_decode(self._ids(self.words), skip_special_tokens=True)
        # As it writes them: some tokenizers know fewer characters.
        self.forms = [{_in_line(word), _in_line(as_read)} for word, as_read in zip(self.words, written, strict=True)]
        for label, (word, as_read) in enumerate(zip(self.words, written, strict=True)):
            if not as_read.strip() or self._labels_of(as_read) != [label]:
                raise ConfigError(
                    f"dataset.verbaliser: this tokenizer writes {word!r} as {as_read!r}, which isn't that word alone"
                )


def _in_line(text: str) -> str:
    """Strips a text and replaces each run of white space in it by one space."""
    return " ".join(text.split())


def _words(data: DatasetConfig) -> list[str]:
    if data.task == "generation":
        return []
    return _LETTERS if data.task == "multiple_choice" else label_words(data, "text")


def questions(predictions: list[str], examples: Encoded) -> tuple[list[str], list[list[str]]]:
    """A text and all right ones of every question: of rows that are one (`group`), the first one's text."""
    references = examples.references or []
    groups = range(len(predictions)) if examples.groups is None else examples.groups.tolist()
    by_group: dict[int, tuple[str, list[str]]] = {}
    for text, right, group in zip(predictions, references, groups, strict=True):
        by_group.setdefault(group, (text, []))[1].extend(right)
    return [text for text, _ in by_group.values()], [right for _, right in by_group.values()]
