"""What tuning made a model forget: the questions of benchmarks, asked by lm-eval before and after, and compared.

The same questions are asked twice, so that the difference has the standard error of paired answers, which is smaller
than that of two independent samples: Miller, arXiv 2411.00640, section 4.2.
"""

import copy
import importlib.metadata
import json
import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from peftbench import backbones, cached, files, fingerprint, paths, scored, start, stop
from peftbench.benchmarks import Questions
from peftbench.checkpoints import Checkpoint
from peftbench.data.datamodule import TaskDataModule
from peftbench.module import FineTuner
from peftbench.schema import BenchmarkConfig, RunConfig
from peftbench.tasks.base import Batch, Task

if TYPE_CHECKING:
    from peftbench.run import Job

#: Values of logits that are held at once, at the most (1 GB), and tokens of a prompt that this is reckoned with: a
#: likelihood takes those of every position.
_LOGITS, _PROMPT = 1 << 28, 1024

#: Libraries that decide what a base answers.
_ASKED_BY = ("lm_eval", "datasets", "torch", "transformers", "tokenizers")

#: By benchmark and part: what every question scored, in [0, 1], and whether its prompt was cut.
Answers = dict[str, dict[str, list[tuple[float, bool]]]]


class Asked:
    """A model as lm-eval calls it. Not a Module: lm-eval would tie its weights anew, which a method may have parted.

    Args:
        prepare: the method's own arguments, added to the model's.
    """

    def __init__(self, model: nn.Module, prepare: Callable[[Batch], Batch]) -> None:
        self.model, self.config, self._prepare = model.eval(), model.config, prepare

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def __call__(self, ids: torch.Tensor) -> Any:
        """ids: (n, length), padded on the right, where a decoder doesn't look."""
        return self.model(**self._prepare({"input_ids": ids, "attention_mask": torch.ones_like(ids)}))

    def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> torch.Tensor:
        """Ids with what was written behind them."""
        given = self._prepare({"input_ids": input_ids, "attention_mask": attention_mask})
        return self.model.generate(**given, **more)  # type: ignore[operator]


@dataclass(frozen=True)
class Asking:
    """What both models are asked, and how.

    Attributes:
        context: entered around a model's calls (precision).
        cache: folder of what base models answered.
    """

    config: RunConfig
    questions: Mapping[str, Questions]
    tokenizer: PreTrainedTokenizerBase
    context: Callable[[], AbstractContextManager[Any]]
    cache: Path

    def answers(self, model: nn.Module, prepare: Callable[[Batch], Batch] = lambda batch: batch) -> Answers:
        """Asks a model all questions."""
        found: Answers = {}
        with torch.inference_mode(), self.context():
            for name, benchmark in (self.config.forgetting or {}).items():
                lm = self._lm(Asked(model, prepare), benchmark)
                tasks = {part: _task(benchmark, part, self.questions[name]) for part in benchmark.parts}
                found[name] = _ask(lm, benchmark, tasks)
        return found

    def _lm(self, asked: Asked, benchmark: BenchmarkConfig) -> Any:
        from lm_eval.models.huggingface import HFLM

        tokenizer = _ending(self.tokenizer)
        # Some tokenizers end every text, and an answer can't come behind an end: nothing is added to theirs.
        ends = tokenizer("a")["input_ids"][-1] in tokenizer.all_special_ids
        rows = max(1, _LOGITS // (_PROMPT * len(tokenizer)))
        return HFLM(
            pretrained=asked,  # type: ignore[arg-type]
            backend="causal",
            tokenizer=tokenizer,  # type: ignore[arg-type]
            add_bos_token=False if ends else None,
            batch_size=min(self.config.hardware.eval_batch_size, rows),
            max_length=self._longest(asked.model),
            softmax_dtype="float32",
        )

    def _longest(self, model: nn.Module) -> int | None:
        """Tokens of a text that the model has positions for, beside a method's virtual ones. None: lm-eval's guess."""
        positions = backbones.positions(model)
        return None if positions is None else positions - backbones.virtual_tokens(self.config)

    def base_answers(self, task: Task, checkpoint: Checkpoint) -> Answers:
        """What the base answers, from the cache if it was asked before."""
        config = self.config
        asked = {
            "benchmarks": {name: vars(benchmark) for name, benchmark in (config.forgetting or {}).items()},
            "questions": {name: of.fingerprint for name, of in self.questions.items()},
            "model": checkpoint.fingerprint,
            # A model without a checkpoint starts at random.
            "seed": config.seed if checkpoint.folder is None else None,
            "quantization": config.method.quantization,
            "precision": config.hardware.precision,
            "accelerator": config.hardware.accelerator,
            # How prompts are cut to the model's positions, and put together.
            "virtual_tokens": backbones.virtual_tokens(config),
            "batch": config.hardware.eval_batch_size,
            "loaded_as": [task.auto_model.__name__, repr(task.model_args)],
            "code": fingerprint.of_code(paths.PACKAGE),
            "versions": {name: importlib.metadata.version(name) for name in _ASKED_BY},
        }
        file = self.cache / "forgetting" / f"{fingerprint.of_json(asked)[:24]}.json"
        kept = cached.read(file, lambda entry: json.loads(entry.read_text(encoding="utf-8")))
        if kept is not None:
            return kept
        base = reseeded(config.seed, lambda: start.load_model(config, checkpoint, task))
        text = json.dumps(self.answers(base))
        with files.spared("what the base answers", []):
            cached.write(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return json.loads(text)


def measured(
    job: "Job", tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer
) -> tuple[dict[str, Any] | None, list[str]]:
    """A record's `forgetting`, where benchmarks are asked; or none and a note why: the score is there already."""
    if not job.questions:
        return None, []
    job.emit({"event": "phase", "phase": "asking benchmarks"})
    precision = trainer.precision_plugin.forward_context
    asking = Asking(job.config, job.questions, data.tokenizer, precision, job.places.cache)
    try:
        prepare = tuner.method.prepare_batch
        return measure(asking, tuner.model, prepare, task=tuner.task, checkpoint=job.checkpoint), []
    except stop.Interrupted:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("forgetting")
        return None, [scored.unmeasured(job.config.method.name, scored.FORGETTING, type(error).__name__)]


def measure(
    asking: Asking, model: nn.Module, prepare: Callable[[Batch], Batch], *, task: Task, checkpoint: Checkpoint
) -> dict[str, Any]:
    """A record's `forgetting`: by benchmark, before and after tuning.

    Args:
        model: the tuned one; `prepare`: its method's arguments.
        task, checkpoint: of the base.
    """
    after, before = asking.answers(model, prepare), asking.base_answers(task, checkpoint)
    version = importlib.metadata.version("lm_eval")
    return {
        name: {
            "metric": benchmark.metric,
            **compared(_all(before[name]), _all(after[name])),
            "parts": {part: compared(before[name][part], after[name][part]) for part in benchmark.parts},
            "data_fingerprint": asking.questions[name].fingerprint,
            "lm_eval": version,
        }
        for name, benchmark in (asking.config.forgetting or {}).items()
    }


def reseeded(seed: int, load: Callable[[], nn.Module]) -> nn.Module:
    """The model that a run with this seed began with, whatever was drawn since: some start at random."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        L.seed_everything(seed, verbose=False)
        return load()


def compared(before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Means over the same n questions before and after, and the mean difference, each with its standard error (of the
    mean; None for a single question); `cut`: prompts that were too long for the model."""
    first, second = ([float(score) for score, _ in answers] for answers in (before, after))
    gained = [b - a for a, b in zip(first, second, strict=True)]
    found: dict[str, Any] = {"n": len(first), "cut": sum(bool(cut) for _, cut in after)}
    for name, values in (("before", first), ("after", second), ("difference", gained)):
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        found |= {name: statistics.fmean(values), f"{name}_se": error}
    return found


def _all(parts: Mapping[str, Sequence[Sequence[Any]]]) -> list[Sequence[Any]]:
    return [answer for answers in parts.values() for answer in answers]


def _ending(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """With a token that ends a text, which lm-eval stops at."""
    tokenizer = copy.deepcopy(tokenizer)
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    return tokenizer


def _task(benchmark: BenchmarkConfig, part: str, questions: Questions) -> Any:
    """lm-eval's task of a part, on our rows: it would ask the hub for its own."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(str(lm_eval.__file__)).parent / "tasks" / benchmark.folder
    name = benchmark.task.replace("{part}", part)
    # One folder: to read them all takes ten seconds.
    known = TaskManager(include_path=folder, include_defaults=False).task_index
    config = load_yaml(known[name].yaml_path)
    for key in ("tag", "group", "dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    return ConfigurableTask(
        config={**config, **_settings(benchmark, config), "custom_dataset": _rows(benchmark, part, questions)}
    )


def _settings(benchmark: BenchmarkConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of lm-eval's task is ours to say."""
    found: dict[str, Any] = {"num_fewshot": config.get("num_fewshot") or 0, "metadata": {}}
    if benchmark.shots is not None:
        found["num_fewshot"] = benchmark.shots
    if config.get("output_type") == "generate_until":
        if benchmark.max_new_tokens is not None:
            found["generation_kwargs"] = {**config["generation_kwargs"], "max_gen_toks": benchmark.max_new_tokens}
        if "filter_list" not in config:
            # The space in front of an answer is most tokenizers' way to write a word, not a mistake.
            steps = [{"function": "remove_whitespace"}, {"function": "take_first"}]
            found["filter_list"] = [{"name": "none", "filter": steps}]
    return found


def _rows(benchmark: BenchmarkConfig, part: str, questions: Questions) -> Callable[..., dict[str, Any]]:
    import datasets

    def read(**_: Any) -> dict[str, Any]:
        tables = {split: questions.rows(benchmark, part, split) for split in benchmark.splits}
        asked = benchmark.splits[0]
        tables[asked] = tables[asked].slice(0, benchmark.examples)
        return {split: datasets.Dataset(datasets.table.InMemoryTable(table)) for split, table in tables.items()}

    return read


def _ask(lm: Any, benchmark: BenchmarkConfig, tasks: Mapping[str, Any]) -> dict[str, list[tuple[float, bool]]]:
    from lm_eval.evaluator import evaluate

    named = {task.config.task: task for task in tasks.values()}
    found = evaluate(lm, {"tasks": named, "groups": {}, "group_map": {}}, bootstrap_iters=0, log_samples=True)
    return {
        part: [
            (float(s[benchmark.metric]), _cut(lm, benchmark, s)) for s in _firsts(found["samples"][task.config.task])
        ]
        for part, task in tasks.items()
    }


def _firsts(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the questions; of several ways to read an answer the task's first."""
    return sorted((s for s in samples if s["filter"] == samples[0]["filter"]), key=lambda s: s["doc_id"])


def _cut(lm: Any, benchmark: BenchmarkConfig, sample: Mapping[str, Any]) -> bool:
    """Whether a prompt was too long, and lost its beginning."""
    prompt, *_ = (
        next(iter(sample["arguments"].values())).values()
        if isinstance(sample["arguments"], dict)
        else sample["arguments"][0]
    )
    return len(lm.tok_encode(prompt)) > lm.max_length - (benchmark.max_new_tokens or 1)
