"""Tasks whose answer the model writes: generation, and labels and choices as text. Decoders and encoder-decoders.

Trained on the answer's tokens alone, its end included (cross entropy, a mean over all tokens of a global batch);
answered by greedy or beam search. Source: Raffel et al. (T5), arXiv 1910.10683, sections 2.3 and 2.4: every task as
text, and an answer that is no label counts as wrong.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch, Inputs
from peftbench.data.encode import Encoded
from peftbench.data.examples import NO_LABEL, Example, Reader
from peftbench.data.readers import reader
from peftbench.data.rows import check_template
from peftbench.data.templates import fill
from peftbench.errors import ConfigError, NotApplicable
from peftbench.tasks.base import Answered
from peftbench.tasks.fitting import Lines
from peftbench.tasks.likelihood import Likelihood
from peftbench.tasks.shared import encoding, numbers
from peftbench.tasks.verbaliser import ANSWER, label_words, place_answer

_LETTERS = [chr(ord("A") + i) for i in range(26)]
_OPTIONS = "options"
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
    """

    formulation: str = "text"
    generates: bool = True
    words: list[str] = field(default_factory=list)
    forms: list[set[str]] = field(default_factory=list)
    template: str = ""
    writing: Any = None
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
        return cls(data, read, config.model.family, words=words, template=template, writing=writing)

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
        return encoding(self.config, "text", self.family)

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().prepare(tokenizer)
        self.tokenizer = tokenizer
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
        """Token ids of whole answers. A decoder's follow a word, with their space; an encoder-decoder's stand alone,
        with what its tokenizer puts around a text."""
        if self.family == "encoder_decoder":
            lines = self.tokenizer(texts, verbose=False)["input_ids"]
        else:
            lines = self.tokenizer([f" {text}" for text in texts], add_special_tokens=False, verbose=False)["input_ids"]
        return [[*(ids[:-1] if ids and ids[-1] == self.end else ids), self.end] for ids in lines]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int, *, training: bool = False
    ) -> Inputs:
        return super().encode(tokenizer, [self._asked(example) for example in examples], max_length, training=training)

    def _asked(self, example: Example) -> Example:
        """One sequence, with its answer and its choices as fields. Raises ConfigError for more choices than letters."""
        if len(example.choices) > len(_LETTERS):
            raise ConfigError(
                f"dataset.choices: row {example.row} has {len(example.choices)}; formulation=text names them by "
                f"letters, of which there are {len(_LETTERS)}"
            )
        options = " ".join(f"({letter}) {text}" for letter, text in zip(_LETTERS, example.choices, strict=False))
        return replace(example, fields={**example.fields, ANSWER: self.right(example), _OPTIONS: options}, choices=[])

    def right(self, example: Example) -> str:
        """The answer's text; empty where it is hidden."""
        if self.words:
            return "" if example.label == NO_LABEL else self.words[int(example.label)]
        return example.references[0]

    def question(self, example: Example) -> str:
        """An example as a person would be asked: the template up to the answer, or with a gap in its place where words
        follow."""
        before, _, after = self._template().partition(f"{{{ANSWER}}}")
        fields = self._asked(example).fields
        asked = fill(before, fields).rstrip()
        return f"{asked} {_GAP}{fill(after, fields)}" if any(map(str.isalnum, after)) else asked

    def _template(self) -> str:
        """The text around `{answer}`; of a choice with what is chosen from."""
        if self.config.task != "multiple_choice":
            return self.template
        return self.template.replace(f"{{{ANSWER}}}", f"{{{_OPTIONS}}} {{{ANSWER}}}")

    def render(self, tokenizer: PreTrainedTokenizerBase, fields: list[dict[str, str]]) -> Lines:
        template = self._template()
        return {"input_ids": [place_answer(tokenizer, template, f, self.family) for f in fields]}

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
        return int((batch["targets"] >= 0).sum())

    def losses(self, outputs: Any, batch: Batch) -> torch.Tensor:
        log_probabilities, real = self.log_probabilities(outputs, batch)
        return -log_probabilities[real]

    def prompt(self, batch: Batch) -> Batch:
        """A decoder goes on where its text ends: padded on the left."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self.family == "decoder":
            places = torch.arange(ids.shape[1], device=ids.device) + mask.sum(dim=1, keepdim=True)
            ids, mask = (part.gather(1, places % ids.shape[1]) for part in (ids, mask))
        return {"input_ids": ids, "attention_mask": mask}

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
        folded = [
            label
            for label, spellings in enumerate(forms)
            if answer.casefold() in {form.casefold() for form in spellings}
        ]
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
