"""One run, from its configuration to its record. Reads top to bottom."""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import lightning as L

from peftbench import errors
from peftbench.config.identity import description
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.mixture import MixtureDataModule
from peftbench.methods import frozen_weights
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.models import backbones, dropout, one_position, parameters, quantization
from peftbench.results import activity, curves, finished, scored, warnings
from peftbench.results.records import RunRecord
from peftbench.run import completing, environment, outputs, speed, start_from, step_cost
from peftbench.run.context import RunContext
from peftbench.run.evaluation import Metrics, evaluate, headline, predict
from peftbench.run.footnotes import footnotes
from peftbench.run.prepared import PreparedRun, own_metrics
from peftbench.run.training import sharding
from peftbench.run.training.class_weights import class_weights
from peftbench.run.training.curve import Curve
from peftbench.run.training.energy import Energy
from peftbench.run.training.halving import Halving
from peftbench.run.training.meter import Meter, PeakMemory
from peftbench.run.training.progress import Reporter
from peftbench.run.training.resume import RunState
from peftbench.run.training.selection import SelectBest, maximise
from peftbench.run.training.trainer import build_trainer, total_steps, validates
from peftbench.run.training.tuner import FineTuner
from peftbench.system import files, ranks, stop
from peftbench.system.process_group import Emit
from peftbench.tasks.base import Task
from peftbench.tasks.table import build as build_task


def run(context: RunContext) -> RunRecord | None:
    """Train, evaluate and measure one configuration in this process. None on every rank but the first, which has the
    record."""
    memory = PeakMemory()
    tuner, data = set_up(context)
    trained = train(context, tuner, data, memory)
    context.emit({"event": "phase", "phase": "evaluating"})
    notes: list[str] = []
    metrics, predictions = evaluate(trained.trainer, tuner, data, context.places.predictions, notes, context.emit)
    if not ranks.leave():
        return None
    with stop.deferred():  # The score is there: what is left of its record takes a moment.
        record = warnings.noted(scored_record(context, tuner, data, trained, metrics, notes))
        record = outputs.scored_by_example(record, context.places.predictions)
        parts = completing.outstanding(context, tuner, data, trained.trainer, predictions, measure=measure_speed)
        context.keep(scored.draft(record, list(parts)))
    record = completing.complete(record, parts, context.keep)
    lost: list[str] = []
    with files.spared(f"{context.config.method.name}: the model card", lost):
        outputs.write_card(context.places.adapter, record)
    record = replace(record, footnotes=[*record.footnotes, *lost])
    return replace(record, efficiency={**(record.efficiency or {}), "run_time_s": time.time() - context.started})


def scored_record(
    context: RunContext,
    tuner: FineTuner,
    data: TaskDataModule,
    trained: "TrainingResult",
    metrics: Metrics,
    notes: list[str],
) -> RunRecord:
    """The record with everything that is known with the score. Stores the weights.

    Args:
        notes: footnotes about what couldn't be written.
    """
    config, prepared, adapter_bytes = context.config, context.prepared, None
    with files.spared(f"{config.method.name}: weights", notes):
        adapter_bytes = outputs.save(tuner.method, tuner.model, context.places.adapter, keep=config.save_adapters)
    with files.spared(f"{config.method.name}: the learning curve", notes):
        if trained.curve:
            curves.write(context.places.curve, trained.curve)
    return RunRecord(
        key=context.key,
        status="completed",
        config=description(config),
        changed=config.changed,
        metrics=metrics,
        score=headline([metrics[name] for name in data.headline]),
        selected_step=trained.selected,
        selection=trained.selection,
        halving=trained.halving,
        params=trained.params,
        efficiency={
            **trained.figures,
            "adapter_bytes": adapter_bytes,
            **dict.fromkeys(scored.MEASURED),
            **tuner.writing(),
            "run_time_s": time.time() - context.started,
        },
        samples={"train": data.train.row_count, "examples": len(data.train), "truncated": data.train.truncated},
        learnt=tuner.method.describe(tuner.model, data.tokenizer),
        environment={
            **environment.describe(),
            **fingerprints(prepared),
            "start": None if (start := prepared.checkpoint.start) is None or start.record is None else start.record.key,
            "started_unix_s": int(context.started),
            "resumed_at_steps": trained.resumed,
            "jobs_beside": activity.beside(config.results_dir),
        },
        footnotes=[*footnotes(config, prepared.source, prepared.checkpoint, data, trains=tuner.method.trains), *notes],
    )


def set_up(context: RunContext) -> tuple[FineTuner, TaskDataModule]:
    """The data and the prepared model of a run. On a CPU the same bits each time."""
    config = context.config
    environment.set_up(config.hardware)
    L.seed_everything(config.seed, verbose=False)
    context.emit({"event": "phase", "phase": "tokenising"})
    task = build_task(config)
    data = load_data(context, task)
    method = build_method(config.method)
    if method.trains and ranks.is_first():
        data.count_repeats()
    steps = total_steps(config, data.epoch_examples) if method.trains else 0
    dropout.install_attention()  # LoRA-GA computes gradients while it is applied, with dropout.
    applied_in = Context(config.model, task, steps, config.seed, data.train_once, data.tokenizer, config.model_root)
    model = method.apply(start_from.load_model(config, context.prepared.checkpoint, task), applied_in)
    dropout.install(model)
    if not method.needs_all_positions(model):
        one_position.install(model)
    frozen_weights.store(model, config, method)
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
        class_weights=class_weights(config, data.train),
    )
    if config.hardware.strategy == "fsdp":
        tuner.shards = sharding.Shards(model)
    return tuner, data


@dataclass(frozen=True)
class TrainingResult:
    """The results that training leaves behind.

    Attributes:
        trainer: Lightning's, with the device and the precision that the run goes on in.
        selected: the step whose weights are in the model.
        params: numbers of weights, as `models.parameters.count` has them.
        figures: times and memory of training, by their names in a record's `efficiency`.
        resumed: the steps at which the run was taken up again after a stop.
        selection: the score of the step that was selected beside the last one's (`RunRecord.selection`).
        halving: `RunRecord.halving`.
        curve: the learning curve; empty where nothing was trained.
    """

    trainer: L.Trainer
    selected: int | None
    params: dict[str, int | None]
    figures: dict[str, Any]
    resumed: list[int]
    selection: dict[str, float | int | None] | None
    halving: dict[str, Any] | None
    curve: list[curves.Point]


def train(context: RunContext, tuner: FineTuner, data: TaskDataModule, memory: PeakMemory) -> TrainingResult:
    """Fit, where the method trains at all, and put the selected step's weights back."""
    config, method, steps, folder = context.config, tuner.method, tuner.total_steps, context.places.unfinished
    meter, energy, curve = Meter(), Energy(), Curve(steps)
    select = SelectBest(folder, maximise=maximise(config.dataset), patience=config.recipe.patience)
    halving = Halving(config, curve, maximise=select.maximise)
    state = RunState(
        folder,
        code=environment.versions(),
        every_s=config.checkpoint_every_s,
        select=select,
        meter=meter,
        memory=memory,
        curve=curve,
    )
    # The order matters: see `RunState` and `Meter`.
    callbacks = [state, *method.callbacks(), select, curve, halving, Reporter(context.emit), energy, meter]
    trainer = build_trainer(config, context.sinks, callbacks, steps=steps, epoch_steps=len(data.train_dataloader()))
    if method.trains:
        fit(tuner, data, trainer, state, context.emit)
    # Before `steps` where patience ended it.
    end = steps if not method.trains else state.step if state.ended else trainer.global_step
    peak = {name: value if method.trains else None for name, value in ranks.summed(memory.peak()).items()}
    tuner.unshard()
    # After fit: LoRA-FA freezes weights when its optimiser is built.
    params = parameters.count(tuner.model, config.model.head)
    if validates(config) and method.trains and select.last != end:
        # The last evaluation came before the end: the end is a candidate too.
        answers = predict(trainer, tuner, data.val_dataloader())
        score = tuner.scores(answers, data.validated)["score"]
        select.offer(score, end, answers)
        curve.score(end, score)
    if method.trains and not state.ended:
        state.save(tuner, None, end)
    selected, tuner.selected_answers = select.restore(tuner.model, end), select.answers
    figures: dict[str, Any] = {**meter.figures(), **peak, "weights_bytes": quantization.weights_bytes(tuner.model)}
    # Of a run in several processes nobody measured the others'.
    figures["energy_j"] = None if state.resumed or config.hardware.devices > 1 else energy.joules()
    points = curve.points(meter.steps_s, meter.samples, selected=selected)
    chosen = select.outcome(), halving.outcome()
    return TrainingResult(trainer, selected, params, figures, state.resumed, *chosen, points)


def fit(tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer, state: RunState, emit: Emit) -> None:
    """Train from the saved state, or else from the beginning, to the last step."""
    steps = tuner.total_steps
    state.read(steps)
    if state.ended:  # It was stopped between training and its record.
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


def load_data(context: RunContext, task: Task) -> TaskDataModule:
    """The run's splits, tokenised."""
    config, prepared = context.config, context.prepared
    kind = MixtureDataModule if config.dataset.parts else TaskDataModule
    data = kind(
        config,
        task,
        backbones.load_tokenizer(config.model, prepared.checkpoint),
        source=prepared.source,
        tokenizer_fingerprint=prepared.checkpoint.fingerprint,
        cache=context.places.cache,
    )
    with ranks.first_alone():  # What it tokenised the others read.
        data.setup()
    return data


def measure_speed(
    context: RunContext, tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer
) -> tuple[dict[str, Any], list[str]]:
    """Inference speed and a training step's cost, beside a fresh base, and footnotes; or nulls and a footnote that says
    why.

    Nothing here may cost the score: not a want of memory (a second model may not fit where one did), not a stop.
    """
    context.emit({"event": "phase", "phase": "measuring speed"})
    try:
        stop.check()
        base = start_from.load_model(context.config, context.prepared.checkpoint, tuner.task)
        # As the trained model is computed, so that the method alone makes the difference.
        dropout.install(base)
        if one_position.installed(tuner.model):
            one_position.install(base)
        frozen_weights.store_base(base, context.config)
        forward = trainer.precision_plugin.forward_context
        figures, notes = speed.measure(tuner, base, data, precision=forward, emit=context.emit)
        cost, missing = step_cost.added(tuner, base, data, trainer)
        return {**figures, **cost}, [*notes, *missing]
    except errors.Interrupted:
        why = "interrupted"
    except Exception as error:
        logging.getLogger(__name__).exception("inference speed")
        why = type(error).__name__
    return dict.fromkeys(scored.MEASURED), [scored.unmeasured(context.config.method.name, scored.SPEED, why)]


def fingerprints(prepared: PreparedRun) -> dict[str, Any]:
    """Hashes of everything that the run read, as a record's `environment` has them."""
    inputs = finished.fingerprints(prepared.config.method.inputs)
    if prepared.bertscore_model is not None:
        inputs["bertscore_model"] = prepared.bertscore_model.fingerprint
    inputs |= own_metrics(prepared.config.dataset)
    questions = {name: benchmark.fingerprint for name, benchmark in prepared.questions.items()}
    return {
        "data_fingerprint": prepared.source.fingerprint,
        "model_fingerprint": prepared.checkpoint.fingerprint,
        **({"inputs": inputs} if inputs else {}),
        **({"questions": questions} if questions else {}),
    }
