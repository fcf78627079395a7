"""lm-eval (EleutherAI's evaluation harness) as this project calls it: a model to ask, a benchmark's tasks, the answers.

Everything that leans on lm-eval's insides stands here. tests/run/test_lm_eval_compat.py fails where they change.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from peftbench.config.forgetting import BenchmarkConfig
from peftbench.data.batch import Batch
from peftbench.data.forgetting import Questions

#: The lm-eval that this file was written against.
WRITTEN_FOR = "0.4.13"

#: Logits that are held at once, at the most (1 GB), and tokens of a prompt that this is reckoned with: a likelihood
#: takes those of every position.
_LOGITS, _PROMPT = 1 << 28, 1024

#: What every question of a part scored, in [0, 1], and whether its prompt was cut.
Scores = list[tuple[float, bool]]


class PreparedModel:
    """A model as lm-eval calls it. Not a Module: lm-eval would tie its weights anew, which a method may have parted.

    Args:
        prepare: adds the method's own arguments to the model's.
    """

    def __init__(self, model: nn.Module, prepare: Callable[[Batch], Batch]) -> None:
        self.model, self.config, self._prepare = model.eval(), model.config, prepare

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def __call__(self, ids: torch.Tensor) -> Any:
        """ids: (n, length), padded on the right, where a decoder doesn't look."""
        return self.model(**self._prepare({"input_ids": ids, "attention_mask": torch.ones_like(ids)}))

    def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """The ids of a prompt with those that were written behind it. input_ids, attention_mask: (n, length)."""
        inputs = self._prepare({"input_ids": input_ids, "attention_mask": attention_mask})
        return self.model.generate(**inputs, **arguments)  # type: ignore[operator]


def language_model(
    model: PreparedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int, max_length: int | None
) -> Any:
    """lm-eval's language model.

    Args:
        batch_size: questions at once, at the most.
        max_length: tokens of prompt and answer; None: what lm-eval reads in the model's configuration.
    """
    from lm_eval.models.huggingface import HFLM

    tokenizer = _with_eos(tokenizer)
    # Some tokenizers end every text, and an answer can't come behind an end: nothing is added to theirs.
    ends = tokenizer("a")["input_ids"][-1] in tokenizer.all_special_ids
    rows = max(1, _LOGITS // (_PROMPT * len(tokenizer)))
    return HFLM(
        pretrained=model,
        backend="causal",
        tokenizer=tokenizer,
        add_bos_token=False if ends else None,
        batch_size=min(batch_size, rows),
        max_length=max_length,
        softmax_dtype="float32",
    )


def _with_eos(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that has a token for a text's end, at which lm-eval stops writing."""
    tokenizer = copy.deepcopy(tokenizer)
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    return tokenizer


def task(benchmark: BenchmarkConfig, part: str, questions: Questions) -> Any:
    """lm-eval's task of a benchmark's part, with our rows: by itself it would ask the hub for them."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    # Private, but the only reader of the YAML files with their !function tags that doesn't build the task as well.
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(str(lm_eval.__file__)).parent / "tasks" / benchmark.folder
    name = benchmark.task.replace("{part}", part)
    # One folder: to read all of them takes ten seconds.
    index = TaskManager(include_path=folder, include_defaults=False).task_index
    config = load_yaml(index[name].yaml_path)
    for key in ("tag", "group", "dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in benchmark.splits:  # lm-eval looks into every split that a task names.
            config.pop(key, None)
    return ConfigurableTask(
        config={**config, **_settings(benchmark, config), "custom_dataset": _rows(benchmark, part, questions)}
    )


def _settings(benchmark: BenchmarkConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of lm-eval's task that a benchmark's configuration overrides."""
    settings: dict[str, Any] = {"num_fewshot": config.get("num_fewshot") or 0, "metadata": {}}
    if benchmark.shots is not None:
        settings["num_fewshot"] = benchmark.shots
    if config.get("output_type") == "generate_until":
        if benchmark.max_new_tokens is not None:
            settings["generation_kwargs"] = {**config["generation_kwargs"], "max_gen_toks": benchmark.max_new_tokens}
        if "filter_list" not in config:
            # The space in front of an answer is most tokenizers' way to write a word, not a mistake.
            steps = [{"function": "remove_whitespace"}, {"function": "take_first"}]
            settings["filter_list"] = [{"name": "none", "filter": steps}]
    return settings


def _rows(benchmark: BenchmarkConfig, part: str, questions: Questions) -> Callable[..., dict[str, Any]]:
    """A function that gives lm-eval the rows of a part by split."""
    import datasets

    def read(**_: Any) -> dict[str, Any]:
        tables = {split: questions.rows(benchmark, part, split) for split in benchmark.splits}
        asked = benchmark.splits[0]
        tables[asked] = tables[asked].slice(0, benchmark.examples)
        # `Dataset.from_dict` would copy the rows through Python objects.
        return {split: datasets.Dataset(datasets.table.InMemoryTable(table)) for split, table in tables.items()}

    return read


def ask(lm: Any, benchmark: BenchmarkConfig, tasks: Mapping[str, Any]) -> dict[str, Scores]:
    """The scores of all questions of each part, by part, in their order.

    Args:
        lm: of `language_model`.
        tasks: by part, of `task`.
    """
    from lm_eval.evaluator import evaluate

    by_name = {task.config.task: task for task in tasks.values()}
    # The form that `simple_evaluate` hands on: that one would load tasks by their names, with the hub's rows.
    loaded = {"tasks": by_name, "groups": {}, "group_map": {}}
    samples = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)["samples"]
    return {
        part: [(float(s[benchmark.metric]), _cut(lm, benchmark, s)) for s in _firsts(samples[task.config.task])]
        for part, task in tasks.items()
    }


def _firsts(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample a question, in the questions' order: by the task's first way to read an answer, if it has several."""
    return sorted((s for s in samples if s["filter"] == samples[0]["filter"]), key=lambda s: s["doc_id"])


def _cut(lm: Any, benchmark: BenchmarkConfig, sample: Mapping[str, Any]) -> bool:
    """True if a prompt was too long, and lost its beginning."""
    prompt, *_ = (
        next(iter(sample["arguments"].values())).values()
        if isinstance(sample["arguments"], dict)
        else sample["arguments"][0]
    )
    return len(lm.tok_encode(prompt)) > lm.max_length - (benchmark.max_new_tokens or 1)
