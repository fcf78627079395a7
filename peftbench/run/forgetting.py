"""What tuning made a model forget: the questions of benchmarks, asked by lm-eval before and after, and compared.

The same questions are asked twice, so that the difference has the standard error of paired answers, which is smaller
than that of two independent samples: Miller, arXiv 2411.00640, section 4.2.
"""

import importlib.metadata
import json
import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from peftbench import errors
from peftbench.config import paths
from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.forgetting import Questions
from peftbench.models import backbones
from peftbench.models.checkpoints import Checkpoint
from peftbench.results import scored
from peftbench.run import lm_eval_compat, start_from
from peftbench.run.context import RunContext
from peftbench.run.lm_eval_compat import PreparedModel, Scores
from peftbench.run.training.tuner import FineTuner
from peftbench.system import cached, files, fingerprint
from peftbench.tasks.base import Task

#: Libraries that decide what a base model answers.
_LIBRARIES = ("lm_eval", "datasets", "torch", "transformers", "tokenizers")

#: By benchmark and part.
Answers = dict[str, dict[str, Scores]]


@dataclass(frozen=True)
class Asking:
    """The questions to the tuned model and its base, and how they are asked.

    Attributes:
        precision: entered around a model's calls (autocast).
        cache: the folder with what base models answered before.
    """

    config: RunConfig
    questions: Mapping[str, Questions]
    tokenizer: PreTrainedTokenizerBase
    precision: Callable[[], AbstractContextManager[Any]]
    cache: Path

    def answers(self, model: nn.Module, prepare: Callable[[Batch], Batch] = lambda batch: batch) -> Answers:
        """Ask a model all questions.

        Args:
            prepare: adds the method's own arguments to the model's.
        """
        answers: Answers = {}
        with torch.inference_mode(), self.precision():
            for name, benchmark in (self.config.forgetting or {}).items():
                lm = lm_eval_compat.language_model(
                    PreparedModel(model, prepare),
                    self.tokenizer,
                    batch_size=self.config.hardware.eval_batch_size,
                    max_length=self._longest(model),
                )
                tasks = {part: lm_eval_compat.task(benchmark, part, self.questions[name]) for part in benchmark.parts}
                answers[name] = lm_eval_compat.ask(lm, benchmark, tasks)
        return answers

    def _longest(self, model: nn.Module) -> int | None:
        """Tokens of a text that the model has positions for, beside a method's virtual tokens; None: no known limit."""
        positions = backbones.positions(model)
        return None if positions is None else positions - backbones.virtual_tokens(self.config)

    def base_answers(self, task: Task, checkpoint: Checkpoint) -> Answers:
        """The answers of the untuned model; from the cache if it was asked before."""
        config = self.config
        identity = {
            "benchmarks": {name: vars(benchmark) for name, benchmark in (config.forgetting or {}).items()},
            "questions": {name: questions.fingerprint for name, questions in self.questions.items()},
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
            "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        file = self.cache / "forgetting" / f"{fingerprint.of_json(identity)[:24]}.json"
        before = cached.read(file, lambda entry: json.loads(entry.read_text(encoding="utf-8")))
        if before is not None:
            return before
        base = reseeded(config.seed, lambda: start_from.load_model(config, checkpoint, task))
        text = json.dumps(self.answers(base))
        with files.spared("what the base answers", []):
            cached.write(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return json.loads(text)


def measured(
    context: RunContext, tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer
) -> tuple[dict[str, Any] | None, list[str]]:
    """A record's `forgetting`, and footnotes: None where no benchmark is asked, and where asking failed, which mustn't
    cost the score."""
    questions = context.prepared.questions
    if not questions:
        return None, []
    context.emit({"event": "phase", "phase": "asking benchmarks"})
    precision = trainer.precision_plugin.forward_context
    asking = Asking(context.config, questions, data.tokenizer, precision, context.places.cache)
    try:
        checkpoint, prepare = context.prepared.checkpoint, tuner.method.prepare_batch
        return measure(asking, tuner.model, prepare, task=tuner.task, checkpoint=checkpoint), []
    except errors.Interrupted:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("forgetting")
        return None, [scored.unmeasured(context.config.method.name, scored.FORGETTING, type(error).__name__)]


def measure(
    asking: Asking, model: nn.Module, prepare: Callable[[Batch], Batch], *, task: Task, checkpoint: Checkpoint
) -> dict[str, Any]:
    """A record's `forgetting`: by benchmark, scores before and after tuning.

    Args:
        model: the tuned model.
        prepare: adds its method's own arguments to the model's.
        task, checkpoint: what the base model is made of.
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
    """The model that a run with this seed began with, whatever was drawn since: some models start at random."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        L.seed_everything(seed, verbose=False)
        return load()


def compared(before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Mean scores of the same n questions before and after, and their mean difference, each with the standard error of
    the mean (None for a single question); `cut`: how many prompts were too long for the model.

    Args:
        before, after: of each question its score and whether its prompt was cut.
    """
    first, second = ([float(score) for score, _ in answers] for answers in (before, after))
    gained = [b - a for a, b in zip(first, second, strict=True)]
    figures: dict[str, Any] = {"n": len(first), "cut": sum(bool(cut) for _, cut in after)}
    for name, values in (("before", first), ("after", second), ("difference", gained)):
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        figures |= {name: statistics.fmean(values), f"{name}_se": error}
    return figures


def _all(parts: Mapping[str, Sequence[Sequence[Any]]]) -> list[Sequence[Any]]:
    return [answer for answers in parts.values() for answer in answers]
