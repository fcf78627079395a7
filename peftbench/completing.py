"""What is added to a record once its score is there. None of it may cost the score: the record is kept before each."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning as L

from peftbench import bertscore, forgetting, scored, stop
from peftbench.data.datamodule import TaskDataModule
from peftbench.module import FineTuner
from peftbench.records import RunRecord

if TYPE_CHECKING:
    from peftbench.run import Job

#: What is to be added, by the name that footnotes give it: fields of the record, and notes of what is missing.
Parts = dict[str, Callable[[RunRecord], tuple[dict[str, Any], list[str]]]]


def outstanding(
    job: "Job",
    tuner: FineTuner,
    data: TaskDataModule,
    trainer: L.Trainer,
    *,
    answered: dict[str, list[dict[str, Any]]],
    measure: Callable[..., tuple[dict[str, Any], list[str]]],
) -> Parts:
    """The parts in their order. Speeds are last: what measuring does to the model hurts nothing then, and a run that is
    stopped there lacks nothing else.

    Args:
        answered: what `predict` gave of each slice; `measure`: gives speeds, and notes of what is missing.
    """

    def compare_texts(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        assert job.judge is not None
        job.emit({"event": "phase", "phase": "comparing texts"})
        return {}, bertscore.added(str(job.judge.folder), record.metrics, answered, data)

    def ask(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        forgotten, notes = forgetting.measured(job, tuner, data, trainer)
        return {"forgetting": forgotten}, notes

    def time_answers(record: RunRecord) -> tuple[dict[str, Any], list[str]]:
        speeds, notes = measure(job, tuner, data, trainer)
        return {"efficiency": {**(record.efficiency or {}), **speeds}}, notes

    wanted = {scored.BERTSCORE: job.judge, scored.FORGETTING: job.questions, scored.SPEED: job.config.measure}
    made: Parts = {scored.BERTSCORE: compare_texts, scored.FORGETTING: ask, scored.SPEED: time_answers}
    return {name: part for name, part in made.items() if wanted[name]}


def complete(record: RunRecord, parts: Parts, keep: Callable[[RunRecord], None]) -> RunRecord:
    """The record with its outstanding parts; `keep` has it already as it was without any.

    Raises:
        stop.Interrupted: the process was asked to stop meanwhile.
    """
    names = list(parts)
    for number, (name, part) in enumerate(parts.items()):
        if number:
            keep(scored.draft(record, names[number:]))
        if name != scored.SPEED:  # That one ends where it is asked to stop, and leaves nothing undone.
            stop.check()
        fields, notes = part(record)
        record = replace(record, **fields, footnotes=[*record.footnotes, *notes])
    return record
