"""One run, from its configuration to its record. Reads top to bottom."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from peftbench import artefacts, backbones, environment, inference, tasks
from peftbench.checkpoints import Checkpoint
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.sources import DataSource
from peftbench.footnotes import footnotes
from peftbench.meter import Memory, Meter
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.module import FineTuner
from peftbench.progress import Reporter
from peftbench.records import RunRecord
from peftbench.schema import RunConfig, description
from peftbench.selection import SelectBest, maximise
from peftbench.store import Places

Emit = Callable[[dict[str, Any]], None]


def run(
    config: RunConfig,
    key: str,
    *,
    source: DataSource,
    checkpoint: Checkpoint,
    places: Places,
    sinks: Sequence[Logger],
    emit: Emit,
) -> RunRecord:
    """Train, evaluate and measure one configuration in this process.

    Args:
        source, checkpoint: where the data and the model are, on this machine.
        places: where the run may write.
        sinks: loggers that see the numbers as they come.
        emit: takes progress events.
    """
    started, memory = time.time(), Memory()
    if config.hardware.threads is not None:
        torch.set_num_threads(config.hardware.threads)
    L.seed_everything(config.seed, verbose=False)

    task = tasks.build(config)
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    data = TaskDataModule(
        config, task, tokenizer, source=source, tokenizer_fingerprint=checkpoint.fingerprint, cache=places.cache
    )
    emit({"event": "phase", "phase": "tokenising"})
    data.setup()

    method = build_method(config.method)
    steps = total_steps(config, len(data.train)) if method.trains else 0
    context = Context(config.model, task, steps, config.seed, data.train_once)
    model = method.apply(backbones.load_model(config.model, checkpoint, task), context)
    if config.hardware.compile:
        model.compile()
    tuner = FineTuner(
        model,
        task=task,
        method=method,
        recipe=config.recipe,
        micro_batch_size=config.hardware.micro_batch_size,
        total_steps=steps,
    )
    meter, select = Meter(), SelectBest(places.scratch / "selected.safetensors", maximise=maximise(config.dataset))
    trainer = build_trainer(config, sinks, [*method.callbacks(), select, Reporter(emit), meter], steps)
    if method.trains:
        tuner.train()  # Lightning trains in the mode it finds, and a loaded model is in evaluation mode: no dropout.
        trainer.fit(tuner, data.train_dataloader(), data.val_dataloader() if validates(config) else None)
    params, peak = artefacts.count(model, config.model.head), memory.peak()
    selected = select.restore(model, steps)

    emit({"event": "phase", "phase": "evaluating"})
    kept = {name: predict(trainer, tuner, data, name) for name, part in data.slices.items() if part is not None}
    metrics = {
        name: {**tuner.scores(kept[name]), "directions": config.dataset.metrics} if name in kept else None
        for name in data.slices
    }
    artefacts.write_predictions(places.predictions, data, kept, task)
    adapter_bytes = artefacts.save(method, model, places.adapter, keep=config.save_adapters)
    examples = data.slices[config.dataset.evaluation[0]]
    assert examples is not None
    speed = inference.measure(
        model,
        base=backbones.load_model(config.model, checkpoint, task).to(tuner.device),
        method=method,
        examples=examples,
        batch_size=config.hardware.eval_batch_size,
        forward=lambda variant, batch: variant(**tuner.inputs(batch)),
        context=trainer.precision_plugin.forward_context,
    )
    return RunRecord(
        key=key,
        status="completed",
        config=description(config),
        metrics=metrics,
        score=metrics[config.dataset.evaluation[0]]["score"],  # type: ignore[index]
        selected_step=selected,
        params=params,
        efficiency={
            **meter.figures(),
            **peak,
            "adapter_bytes": adapter_bytes,
            **speed,
            "run_time_s": time.time() - started,
        },
        samples={"train": len(data.train), "truncated": data.train.truncated},
        environment={
            **environment.describe(),
            "data_fingerprint": source.fingerprint,
            "model_fingerprint": checkpoint.fingerprint,
            "started_unix_s": int(started),
        },
        footnotes=footnotes(config, source, data),
    )


def total_steps(config: RunConfig, samples: int) -> int:
    """Optimiser steps of a run: `recipe.max_steps`, or the epochs' global batches."""
    recipe = config.recipe
    return recipe.max_steps or recipe.epochs * -(-samples // recipe.batch_size)


def validates(config: RunConfig) -> bool:
    """Whether there is anything to select between: with one evaluation, at the end, there isn't."""
    recipe = config.recipe
    several = recipe.eval_steps is not None or recipe.epochs > 1 or recipe.max_steps is not None
    return several and recipe.selection != "last"


def build_trainer(config: RunConfig, sinks: Sequence[Logger], callbacks: list[Any], steps: int) -> L.Trainer:
    """Lightning's trainer, without what this project does itself: checkpoints, progress bar, distributed sampler."""
    hardware, every = config.hardware, config.recipe.eval_steps
    return L.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=hardware.strategy,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=every,
        check_val_every_n_epoch=None if every else 1,
        logger=list(sinks) or False,
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def predict(trainer: L.Trainer, tuner: FineTuner, data: TaskDataModule, name: str) -> list[dict[str, torch.Tensor]]:
    """What `FineTuner.predict` gives for every batch of a slice. Not `trainer.predict`: it takes no batch sampler of
    our own, and `trainer.validate` would call the callbacks that belong to training."""
    device = trainer.strategy.root_device  # After fit, Lightning has moved the model to the CPU.
    tuner.to(device).eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        return [tuner.predict({k: v.to(device) for k, v in batch.items()}) for batch in data.evaluation(name)]
