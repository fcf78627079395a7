"""Who is compared by `compare.py`: each trains one epoch in this process, and says what it took."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from peftbench.data.datamodule import TaskDataModule
    from peftbench.run.context import RunContext
    from peftbench.tasks.base import Task

#: Seconds of the epoch, its examples, tokens that the model was given (`padded` with padding), and bytes at the peak.
Figures = dict[str, float]

_OURS = ["recipe.epochs=1", "recipe.selection=last", "recipe.eval_samples=16", "save_adapters=false", "measure=false",
         "checkpoint_every_s=null", "overwrite=true"]  # fmt: skip


def context(words: list[str]) -> "RunContext":
    """A run of its own, located."""
    from peftbench.config import compose
    from peftbench.results.store import ResultStore
    from peftbench.run.context import RunContext
    from peftbench.run.prepared import prepare

    run = prepare(compose.one([*_OURS, *words]))
    store = ResultStore(run.config.results_dir)
    return RunContext(run, store.places(run.config, run.key), [], lambda event: None)


class Counted:
    """Counts the tokens that a model is called with."""

    def __init__(self, model: "nn.Module") -> None:
        self.tokens = self.padded = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: "nn.Module", arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids, mask = named["input_ids"], named.get("attention_mask")
        self.padded += ids.numel()
        self.tokens += ids.numel() if mask is None else int(mask.sum())


def _autocast(bf16: bool) -> Any:
    import torch

    return torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()


def _figures(seconds: float, examples: int, counted: Counted, peak: float | None) -> Figures:
    assert peak is not None, "this system doesn't tell a process's memory"
    return {"s": seconds, "examples": examples, "tokens": counted.tokens, "padded": counted.padded, "peak": peak}


def peftbench(words: list[str], *, bf16: bool = False) -> Figures:
    """Ours, as a run trains."""
    from peftbench.run.run import set_up, train
    from peftbench.run.training.meter import PeakMemory

    memory, job = PeakMemory(), context([*words, f"hardware={'cpu_bf16' if bf16 else 'cpu'}"])
    tuner, data = set_up(job)
    counted = Counted(tuner.model)
    figures = train(job, tuner, data, memory).figures
    return _figures(figures["train_time_s"], len(data.train), counted, figures["peak_memory_bytes"])


def plain_loop(words: list[str], *, bf16: bool = False) -> Figures:
    """Our batches, our prepared model and its dropout, our loss; forward, backward, clip, step and nothing else."""
    import torch

    from peftbench.run.run import set_up
    from peftbench.run.training.meter import PeakMemory

    memory, job = PeakMemory(), context(words)
    tuner, data = set_up(job)
    trained = [p for p in tuner.model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=_rate(job), weight_decay=job.config.recipe.weight_decay, fused=True)
    counted = Counted(tuner.model)
    memory.reset()
    start = time.perf_counter()
    for batch in data.train_dataloader(tuner.total_steps, 0):
        optimizer.zero_grad()
        with _autocast(bf16):
            loss = tuner.task.losses(tuner(batch), batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return _figures(time.perf_counter() - start, len(data.train), counted, memory.peak()["peak_memory_bytes"])


def trainer(words: list[str], *, bf16: bool = False, defaults: bool = False) -> Figures:
    """Hugging Face's Trainer with peft, as transformers loads the model: batches padded to their longest and grouped by
    length; with `defaults` in random order, padded to recipe.max_length, as transformers' run_glue.py does it."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from peftbench.run.training.meter import PeakMemory

    memory, job = PeakMemory(), context(words)
    data, model, task = _untouched(job)
    counted, times = Counted(model), [0.0, 0.0]

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            memory.reset()
            times[0] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[1] = time.perf_counter()

    recipe = job.config.recipe
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=recipe.batch_size,
        num_train_epochs=1,
        learning_rate=_rate(job),
        warmup_steps=4,
        train_sampling_strategy="random" if defaults else "group_by_length",
        max_grad_norm=1.0,
        weight_decay=recipe.weight_decay,
        use_cpu=True,
        bf16=bf16,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    rows = _rows(data, task)
    pad = _padding(data, width=recipe.max_length if defaults else None)
    Trainer(model, arguments, train_dataset=rows, data_collator=pad, callbacks=[Clock()]).train()
    return _figures(times[1] - times[0], len(rows), counted, memory.peak()["peak_memory_bytes"])


def _untouched(job: "RunContext") -> tuple["TaskDataModule", "nn.Module", Any]:
    """Data, adapted model and task of a run, without what a run of ours does to the model to make it faster."""
    import torch

    from peftbench.methods.base import Context
    from peftbench.methods.build import build
    from peftbench.models import backbones
    from peftbench.run.run import load_data
    from peftbench.tasks.table import build as build_task

    torch.manual_seed(0)
    config, task = job.config, build_task(job.config)
    data = load_data(job, task)
    method = Context(config.model, task, 60, 0, list)
    model = build(config.method).apply(backbones.load_model(config, job.prepared.checkpoint, task), method)
    return data, model.train(), task


def _rate(job: "RunContext") -> float:
    lr = job.config.method.lr
    assert lr is not None
    return lr


def _rows(data: "TaskDataModule", task: "Task") -> list[dict[str, Any]]:
    """The training data as Trainer takes them: of a head a label; of a language model the text with its answer, whose
    tokens alone are labels."""
    examples, rows = data.train, []
    targets, words = examples.targets, getattr(task, "words", [])
    for i, (a, b) in enumerate(zip(examples.offsets.tolist(), examples.offsets.tolist()[1:], strict=False)):
        ids, label = examples.tokens[a:b].tolist(), examples.labels[i].item()
        if targets is not None and examples.target_offsets is not None:
            answer = targets[slice(*examples.target_offsets[i : i + 2].tolist())].tolist()
        elif task.formulation == "verbaliser":
            answer = [words[int(label)]]
        else:
            rows.append({"input_ids": ids, "labels": label})
            continue
        rows.append({"input_ids": [*ids, *answer], "labels": [-100] * len(ids) + answer})
    return rows


def _padding(
    data: "TaskDataModule", *, width: int | None
) -> Callable[[list[dict[str, Any]]], dict[str, "torch.Tensor"]]:
    """A collator that pads on the right to the longest of a batch, or to a width."""
    import torch

    pad = data.train.pad

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(row["input_ids"]) for row in rows]
        wide = max([*lengths, width or 0])

        def padded(lines: list[list[int]], value: int) -> torch.Tensor:
            return torch.tensor([[*line, *[value] * (wide - len(line))] for line in lines])

        labels = [row["labels"] for row in rows]
        batch = {
            "input_ids": padded([row["input_ids"] for row in rows], pad),
            "attention_mask": padded([[1] * n for n in lengths], 0),
            "labels": padded(labels, -100) if isinstance(labels[0], list) else torch.tensor(labels),
        }
        return batch

    return collate


CONTENDERS: dict[str, Callable[[list[str]], Figures]] = {
    "peftbench": peftbench,
    "plain_loop": plain_loop,
    "trainer": trainer,
    "peftbench_bf16": lambda words: peftbench(words, bf16=True),
    "plain_loop_bf16": lambda words: plain_loop(words, bf16=True),
    "trainer_bf16": lambda words: trainer(words, bf16=True),
    "trainer_defaults": lambda words: trainer(words, defaults=True),
}
