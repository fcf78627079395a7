"""What is added to a record once its score is known. None of it may cost the score: the record is kept before each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L

from peftbench.data.datamodule import TaskDataModule
from peftbench.results import scored, warnings
from peftbench.results.records import RunRecord
from peftbench.run import bertscore, beyond, forgetting, measured_memory
from peftbench.run.context import RunContext
from peftbench.run.evaluation import Predictions
from peftbench.run.training.tuner import FineTuner
from peftbench.system import stop

#: By the name that footnotes give it, what is to be added: a function from the record so far to the fields that it
#: changes, and footnotes about what is missing.
Parts = dict[str, Callable[[RunRecord], tuple[dict[str, Any], list[str]]]]


def outstanding(
    context: RunContext,
    tuner: FineTuner,
    data: TaskDataModule,
    trainer: L.Trainer,
    predictions: Predictions,
    *,
    measure: Callable[..., tuple[dict[str, Any], list[str]]],
) -> Parts:
    """The parts that the run is asked for, in their order. Speeds are last: what measuring does to the model hurts
    nothing then, and a run that is stopped there lacks nothing else.

    Args:
        measure: `run.measure_speed`.
    """
    judge = context.prepared.bertscore_model

    def compare_texts(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        assert judge is not None
        context.emit({"event": "phase", "phase": "comparing texts"})
        return {}, bertscore.added(str(judge.folder), record.metrics, predictions, data)

    def ask(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        forgotten, notes = forgetting.measured(context, tuner, data, trainer)
        return {"forgetting": forgotten}, notes

    def look_beyond(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        evaluated, notes = beyond.evaluated(context, tuner, data, trainer, predictions)
        return {"evaluation": evaluated}, notes

    def time_answers(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        speeds, notes = measure(context, tuner, data, trainer)
        return {"efficiency": {**(record.efficiency or {}), **speeds}}, notes

    def trace_steps(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        figures = record.efficiency or {}
        by_part, notes = measured_memory.measure(context, tuner, data, trainer, train_s=figures.get("train_time_s"))
        return {"efficiency": {**figures, **by_part}}, notes

    wanted = {
        scored.BERTSCORE: (compare_texts, judge),
        scored.BEYOND: (look_beyond, beyond.is_asked(context.config)),
        scored.FORGETTING: (ask, context.prepared.questions),
        scored.SPEED: (time_answers, context.config.measure),
        scored.MEMORY: (trace_steps, context.config.measure),
    }
    return {name: part for name, (part, is_wanted) in wanted.items() if is_wanted}


def complete(record: RunRecord, parts: Parts, keep: Callable[[RunRecord], None]) -> RunRecord:
    """The record with its outstanding parts, each made in turn.

    Args:
        keep: stores a record; has been called with this one, without any of its parts.

    Raises:
        errors.Interrupted: the process was asked to stop (SIGTERM) meanwhile.
    """
    names = list(parts)
    for number, (name, part) in enumerate(parts.items()):
        if number:
            keep(scored.draft(record, names[number:]))
        if name not in scored.MEASUREMENTS:  # Measuring looks for a stop by itself, and leaves nothing undone.
            stop.check()
        fields, notes = part(record)
        record = warnings.noted(replace(record, **fields, footnotes=[*record.footnotes, *notes]))
    return record
