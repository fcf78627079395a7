"""One run, from its configuration to its record. Reads top to bottom."""

import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from peftbench import (
    artefacts,
    backbones,
    completing,
    dropout,
    environment,
    files,
    inference,
    inputs,
    live,
    quantize,
    ranks,
    scored,
    sharding,
    start,
    stop,
    tasks,
)
from peftbench.benchmarks import Questions
from peftbench.checkpoints import Checkpoint
from peftbench.crew import Emit
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.mixture import MixtureDataModule
from peftbench.data.repeats import Repeats
from peftbench.data.sources import DataSource
from peftbench.footnotes import footnotes
from peftbench.meter import Memory, Meter
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.module import FineTuner
from peftbench.progress import Reporter
from peftbench.records import RunRecord
from peftbench.resume import RunState
from peftbench.schema import RunConfig, description
from peftbench.selection import SelectBest, maximise
from peftbench.store import Places
from peftbench.tasks.base import Batch
from peftbench.trainer import build_trainer, total_steps, validates

#: By split what is recorded of it.
Metrics = dict[str, dict[str, Any] | None]


@dataclass(frozen=True)
class Job:
    """What a run is given: its configuration and key, where its inputs are, where it may write, who is told;
    `keep` takes the record as it stands from the moment that the score is there; `started` in Unix seconds."""

    config: RunConfig
    key: str
    source: DataSource
    checkpoint: Checkpoint
    places: Places
    sinks: Sequence[Logger]
    emit: Emit
    questions: Mapping[str, Questions] = field(default_factory=dict)
    judge: Checkpoint | None = None
    keep: Callable[[RunRecord], None] = lambda record: None
    started: float = field(default_factory=time.time)


def run(job: Job) -> RunRecord | None:
    """Train, evaluate and measure one configuration in this process. Of several ranks the first has the record."""
    memory = Memory()
    tuner, data = set_up(job)
    trained = train(job, tuner, data, memory)

    job.emit({"event": "phase", "phase": "evaluating"})
    notes: list[str] = []
    metrics, answered = evaluate(trained.trainer, tuner, data, job.places.predictions, notes)
    if not ranks.leave():
        return None
    with stop.deferred():  # The score is there: what is left of its record takes a moment.
        record = scored_record(job, tuner, data, trained, metrics, notes)
        parts = completing.outstanding(job, tuner, data, trained.trainer, answered=answered, measure=measure_speed)
        job.keep(scored.draft(record, list(parts)))
    record = completing.complete(record, parts, job.keep)
    return replace(record, efficiency={**(record.efficiency or {}), "run_time_s": time.time() - job.started})


def scored_record(
    job: Job, tuner: FineTuner, data: TaskDataModule, trained: "Trained", metrics: Metrics, notes: list[str]
) -> RunRecord:
    """The record with all that is settled with the score; stores the weights. `notes`: of what couldn't be written."""
    config, stored = job.config, None
    with files.spared(f"{config.method.name}: weights", notes):
        stored = artefacts.save(tuner.method, tuner.model, job.places.adapter, keep=config.save_adapters)
    return RunRecord(
        key=job.key,
        status="completed",
        config=description(config),
        changed=config.changed,
        metrics=metrics,
        score=headline([metrics[name] for name in data.headline]),
        selected_step=trained.selected,
        params=trained.params,
        efficiency={
            **trained.figures,
            "adapter_bytes": stored,
            **dict.fromkeys(scored.SPEEDS, None),
            **tuner.writing(),
            "run_time_s": time.time() - job.started,
        },
        samples={"train": data.train.row_count, "examples": len(data.train), "truncated": data.train.truncated},
        learnt=tuner.method.describe(tuner.model, data.tokenizer),
        environment={
            **environment.describe(),
            **job_inputs(job),
            "started_unix_s": int(job.started),
            "resumed_at_steps": trained.resumed,
            "jobs_beside": live.beside(config.results_dir),
        },
        footnotes=[*footnotes(config, job.source, job.checkpoint, data, trains=tuner.method.trains), *notes],
    )


def headline(scored: Sequence[dict[str, Any] | None]) -> float | None:
    """The mean score of the splits that count; None where one's labels are hidden."""
    known = [split["score"] for split in scored if split is not None and split["score"] is not None]
    return statistics.fmean(known) if len(known) == len(scored) else None


def set_up(job: Job) -> tuple[FineTuner, TaskDataModule]:
    """The data and the prepared model of a run: the same bits each time, on a CPU."""
    config = job.config
    if config.hardware.threads is not None:
        torch.set_num_threads(config.hardware.threads)
    elif ranks.world() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks.world()))
    L.seed_everything(config.seed, verbose=False)

    job.emit({"event": "phase", "phase": "tokenising"})
    task = tasks.build(config)
    data = load_data(job, task)

    method = build_method(config.method)
    if method.trains and ranks.is_first():
        data.count_repeats()
    steps = total_steps(config, len(data.train)) if method.trains else 0
    context = Context(config.model, task, steps, config.seed, data.train_once, data.tokenizer, config.model_root)
    model = method.apply(start.load_model(config, job.checkpoint, task), context)
    dropout.install(model)
    if config.hardware.compile:
        model.compile()
    tuner = FineTuner(
        model,
        task=task,
        method=method,
        recipe=config.recipe,
        micro_batch_size=config.hardware.micro_batch_size,
        total_steps=steps,
        head=config.model.head,
    )
    if config.hardware.strategy == "fsdp":
        tuner.shards = sharding.Shards(model)
    return tuner, data


@dataclass(frozen=True)
class Trained:
    """What is left of training: the trainer, the selected step, counts of weights, measured figures, and the steps at
    which it was taken up again."""

    trainer: L.Trainer
    selected: int | None
    params: dict[str, int | None]
    figures: dict[str, Any]
    resumed: list[int]


def train(job: Job, tuner: FineTuner, data: TaskDataModule, memory: Memory) -> Trained:
    """Fit, where the method trains at all, and put the selected step's weights back."""
    config, method, steps, folder = job.config, tuner.method, tuner.total_steps, job.places.unfinished
    meter, select = Meter(), SelectBest(folder, maximise=maximise(config.dataset))
    state = RunState(folder, every_s=config.checkpoint_every_s, select=select, meter=meter, memory=memory)
    callbacks = [state, *method.callbacks(), select, Reporter(job.emit), meter]
    trainer = build_trainer(config, job.sinks, callbacks, steps=steps, epoch_steps=len(data.train_dataloader()))
    if method.trains:
        fit(tuner, data, trainer, state, job.emit)
    peak = {name: value if method.trains else None for name, value in ranks.summed(memory.peak()).items()}
    tuner.settle()
    # After fit: LoRA-FA freezes weights when its optimiser is built.
    params = artefacts.count(tuner.model, config.model.head)
    if validates(config) and method.trains and select.last != steps:
        # The last evaluation came before the end: the end is a candidate too.
        loader = data.val_dataloader()
        select.offer(tuner.scores(predict(trainer, tuner, loader), data.validated)["score"], steps)
    if method.trains and state.step < steps:
        state.save(tuner, None, steps)
    selected = select.restore(tuner.model, steps)
    figures = {**meter.figures(), **peak, "weights_bytes": quantize.weights_bytes(tuner.model)}
    return Trained(trainer, selected, params, figures, state.resumed)


def fit(tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer, state: RunState, emit: Emit) -> None:
    """Train from where the run stands to its end."""
    steps = tuner.total_steps
    state.read(steps)
    if state.step == steps:  # It was stopped between training and its record.
        tuner.configure_optimizers()
        state.restore(tuner, None)
        return
    tuner.train()  # Lightning trains in the mode it finds, and a loaded model is in evaluation mode: no dropout.
    state.memory.reset()
    emit({"event": "phase", "phase": "training"})
    loaders = (data.train_dataloader(steps, state.step), data.val_dataloader() if validates(data.config) else None)
    try:
        with stop.deferred():
            trainer.fit(tuner, *loaders)
    except (ConnectionError, EOFError) as error:
        if data.config.hardware.workers:  # torch says it plainly only where it isn't waiting for that very worker.
            raise RuntimeError(f"a DataLoader worker died ({type(error).__name__}: {error})") from error
        raise


def load_data(job: Job, task: tasks.Task) -> TaskDataModule:
    """The run's splits, tokenised."""
    kind = MixtureDataModule if job.config.dataset.parts else TaskDataModule
    data = kind(
        job.config,
        task,
        backbones.load_tokenizer(job.config.model, job.checkpoint),
        source=job.source,
        tokenizer_fingerprint=job.checkpoint.fingerprint,
        cache=job.places.cache,
    )
    with ranks.first_alone():  # What it tokenised the others read.
        data.setup()
    return data


def measure_speed(
    job: Job, tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer
) -> tuple[dict[str, Any], list[str]]:
    """Inference speed, beside a fresh base; or nulls and a note why. Three models at once may not fit where one did,
    and that mustn't cost the score; nor may a stop."""
    job.emit({"event": "phase", "phase": "measuring speed"})
    try:
        stop.check()
        base = start.load_model(job.config, job.checkpoint, tuner.task)
        dropout.install(base)  # As the trained model has it, so that the method alone makes the difference.
        return inference.measure(tuner, base, data, context=trainer.precision_plugin.forward_context)
    except stop.Interrupted:
        why = "interrupted"
    except Exception as error:
        logging.getLogger(__name__).exception("inference speed")
        why = type(error).__name__
    return dict.fromkeys(scored.SPEEDS, None), [scored.unmeasured(job.config.method.name, scored.SPEED, why)]


def job_inputs(job: Job) -> dict[str, Any]:
    """What the inputs were, as a record's environment has it."""
    given = inputs.fingerprints(job.config.method.inputs)
    if job.judge is not None:
        given["bertscore_model"] = job.judge.fingerprint
    fingerprints = {"data_fingerprint": job.source.fingerprint, "model_fingerprint": job.checkpoint.fingerprint}
    asked = {name: questions.fingerprint for name, questions in job.questions.items()}
    return {**fingerprints, **({"inputs": given} if given else {}), **({"questions": asked} if asked else {})}


def evaluate(
    trainer: L.Trainer, tuner: FineTuner, data: TaskDataModule, predictions: Path, lost: list[str]
) -> tuple[Metrics, dict[str, list[dict[str, Any]]]]:
    """Score every slice of the data, and keep each example's prediction in a file; if it can't be written, `lost` gets
    a note. The second is what `predict` gave of each slice."""
    kept = {
        name: predict(trainer, tuner, data.evaluation(name)) for name, part in data.slices.items() if part is not None
    }
    if ranks.is_first():
        with files.spared(f"{tuner.method.config.name}: predictions", lost):
            artefacts.write_predictions(predictions, data, kept, tuner.task)
    directions = data.config.dataset.metrics
    return {
        name: None
        if part is None
        else {**tuner.scores(kept[name], part), "directions": directions, **_in_train(data.repeats.get(name))}
        for name, part in data.slices.items()
    }, kept


def _in_train(repeats: Repeats | None) -> dict[str, int | None]:
    """How many of a split's scored rows were trained on; nulls where that wasn't counted."""
    exact, folded = (None, None) if repeats is None else (repeats.exact, repeats.folded)
    return {"rows_in_train": exact, "rows_in_train_folded": folded}


def predict(trainer: L.Trainer, tuner: FineTuner, loader: Iterable[Batch]) -> list[dict[str, Any]]:
    """What `FineTuner.predict` gives for every batch, each on one rank. Not `trainer.predict`: it takes no batch
    sampler of our own, and `trainer.validate` would call the callbacks that belong to training."""
    device = trainer.strategy.root_device  # After fit, Lightning has moved the model to the CPU.
    tuner.to(device).eval()
    tuner.begin()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        mine = (batch for index, batch in enumerate(loader) if ranks.takes(index))
        return ranks.interleaved([tuner.predict({k: v.to(device) for k, v in batch.items()}) for batch in mine])
