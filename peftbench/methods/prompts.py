"""Methods with virtual tokens or task ids that need more than their configuration."""

from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn

from peftbench.config.types import RunConfig
from peftbench.data.batch import Arguments
from peftbench.errors import ConfigError, NotApplicable
from peftbench.methods.base import Context
from peftbench.methods.hub import Hub, check_rows
from peftbench.tasks.verbaliser import Verbaliser


class TextPrompt(Hub):
    """Prompt tuning started from the embeddings of words. Source: Lester et al., arXiv 2104.08691, section 3.2.

    `args.text`: the words; `{labels}` stands for the data set's label names. Repeated or cut to the prompt's length.
    """

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        adapted: Any = super().inject(model, config, context)
        labels = context.task.config.labels or []
        text = self.config.args["text"].replace("{labels}", ", ".join(labels))
        ids = context.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ConfigError("method.args.text: holds no token")
        prompt = adapted.prompt_encoder[adapted.active_adapter].embedding.weight
        rows = torch.tensor([ids[i % len(ids)] for i in range(len(prompt))], device=prompt.device)
        with torch.no_grad():
            prompt.copy_(adapted.word_embeddings(rows))
        return adapted


class OneTask(Hub):
    """A method of several tasks that is trained on one: every example has the task id 0."""

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        if not config.is_prompt_learning:
            check_rows(model)
        return super().inject(model, config, context)

    def prepare_batch(self, batch: Arguments) -> Arguments:
        ids = batch["input_ids"]
        return {**batch, "task_ids": torch.zeros(len(ids), dtype=torch.long, device=ids.device)}


class Cpt(Hub):
    """CPT: the prompt starts as the embeddings of labelled training examples and stays near them.

    Source: Blau et al., arXiv 2410.17222, section 3. `args.examples`: how many. The examples' own loss terms (section
    3.3) need the answer behind the query, which a scored label isn't; the projection (section 3.4) is peft's.
    """

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        ids: list[int] = []
        kinds: list[int] = []
        for number, (text, answer) in enumerate(self._examples(context)):
            ids += [*text, *answer]
            # peft's code, four an example: template, input, template of the answer, answer.
            kinds += [4 * number + 2] * len(text) + [4 * number + 4] * len(answer)
        return {"cpt_token_ids": ids, "cpt_mask": [1] * len(ids), "cpt_tokens_type_mask": kinds}

    def _examples(self, context: Context) -> list[tuple[list[int], list[int]]]:
        task = context.task
        if not isinstance(task, Verbaliser):
            raise NotApplicable(f"method={self.config.name}: needs a label word for every answer")
        examples: list[tuple[list[int], list[int]]] = []
        for batch in context.batches():
            for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
                examples.append((ids[mask.bool()].tolist(), [task.words[int(label)]]))
                if len(examples) == self.config.args["examples"]:
                    return examples
        return examples or [([0], [0])]


class FrequentTokens(Hub):
    """Trainable tokens: the embeddings of the training data's commonest tokens. `args.tokens`: how many."""

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        counts = torch.zeros(size, dtype=torch.long)
        for batch in context.batches():
            counts += torch.bincount(batch["input_ids"][batch["attention_mask"].bool()], minlength=size)
        chosen = counts.argsort(descending=True, stable=True)[: self.config.args["tokens"]]
        return {"token_indices": sorted(chosen.tolist())}


class Refused(Hub):
    """A method that peft has and that can't be measured honestly. `args.reason` says why."""

    def refusal(self, config: RunConfig) -> str | None:
        reason: str = self.config.args["reason"]
        return reason
