"""A hosted run, from its configuration to its record. Reads top to bottom."""

import time
from typing import Any

from peftbench.config.identity import description
from peftbench.config.types import RunConfig
from peftbench.errors import Failed
from peftbench.results import activity
from peftbench.results.records import RunRecord
from peftbench.run import environment, outputs
from peftbench.run.context import RunContext
from peftbench.run.evaluation import headline, majority_fraction, rows_in_train
from peftbench.run.footnotes import footnotes
from peftbench.run.hosted import check, cost, job, rows
from peftbench.run.hosted.answers import AnswersByChat
from peftbench.run.hosted.job import JobState
from peftbench.run.hosted.rows import Rows
from peftbench.run.hosted.server import ChatAnswer, Server
from peftbench.run.prepared import PreparedRun
from peftbench.system import files
from peftbench.system.process_group import Emit

#: Tokens of an answer that is a label word, at most.
_WORD = 16
#: The share of refused questions above which a score says more of the requests than of the model.
_MOST_REFUSED = 0.1


def run(context: RunContext) -> RunRecord:
    """Have a server train, answer and be paid once; returns the record.

    Raises:
        ConfigError: `hosted.consent` is false. Failed: the job failed, or too many questions were refused.
    """
    config, folder = context.config, context.places.unfinished
    check.check(config)
    method, hosted = check.method_of(config), check.settings(config)
    sent = rows.load(config, context.prepared.source, context.places.cache)
    server = Server(hosted)
    state = job.tuned(server, config, context.key, sent.training, folder, context.emit) if method.tunes else None
    model = str(hosted.model if state is None else state.model)

    context.emit({"event": "phase", "phase": "evaluating"})
    answers, questions, most = AnswersByChat(folder, model), sent.questions, max_tokens(config, sent)
    answers.ask(
        questions,
        lambda chat: server.answer(model, chat, max_tokens=most, seed=config.seed),
        at_once=hosted.concurrency,
    )
    refused = sum(answer.refused for answer in answers.all(questions))
    if refused > _MOST_REFUSED * len(questions):
        answers.forget_refused()
        raise Failed(f"hosted.model={model}: the server refused {refused} of {len(questions)} questions as bad")
    notes = [f"{config.method.name}: the server refused {refused} questions, which count as wrong"] * bool(refused)
    if state is not None:
        with files.spared(f"{config.method.name}: deleting at the server", notes):
            job.tidied(server, state, hosted.delete)
    return _record(context, sent, answers, state, notes)


def max_tokens(config: RunConfig, sent: Rows) -> int:
    """The tokens of an answer, at most."""
    written = sent.task.writing.max_new_tokens if sent.task.writing is not None else _WORD
    return int(check.settings(config).max_tokens or written)


def _record(
    context: RunContext, sent: Rows, answers: AnswersByChat, state: JobState | None, notes: list[str]
) -> RunRecord:
    config, prepared, data = context.config, context.prepared, sent.data
    texts = {split: [answer.text for answer in answers.all(chats)] for split, chats in sent.asked.items()}
    with files.spared(f"{config.method.name}: predictions", notes):
        outputs.write_texts(context.places.predictions, data, texts, sent.task)
    if state is not None:
        data.count_repeats()
    figures = _figures(config, answers.all(sent.questions), state)
    paid = cost.footnote(config.method.name, check.settings(config), figures)
    metrics = {split: None if split not in texts else _scores(sent, split, texts[split]) for split in data.slices}
    record = RunRecord(
        key=context.key,
        status="completed",
        config=description(config),
        changed=config.changed,
        metrics=metrics,
        score=headline([metrics[split] for split in data.headline]),
        efficiency={**figures, "run_time_s": time.time() - context.started},
        samples={"train": data.train.row_count, "examples": len(data.train), "truncated": None},
        environment={
            **environment.describe(),
            "data_fingerprint": prepared.source.fingerprint,
            "model_fingerprint": prepared.checkpoint.fingerprint,
            "started_unix_s": int(context.started),
            "jobs_beside": activity.beside(config.results_dir),
        },
        footnotes=[*footnotes(config, prepared.source, prepared.checkpoint, data, trains=False), *paid, *notes],
    )
    return outputs.scored_by_example(record, context.places.predictions)


def _scores(sent: Rows, split: str, texts: list[str]) -> dict[str, Any]:
    """The figures of a split in a record; its loss is null: the server tells no likelihood of the right answer."""
    examples = sent.data.slices[split]
    assert examples is not None
    values = dict.fromkeys(sent.task.metrics) if examples.hidden else sent.task.score(texts, examples)
    scores = [value for value in values.values() if value is not None]
    return {
        "values": values,
        "score": sum(scores) / len(scores) if scores else None,
        "loss": None,
        "n": len(examples),
        "truncated": None,
        "directions": sent.data.config.dataset.metrics,
        "majority_fraction": majority_fraction(examples),
        **rows_in_train(sent.data.repeats.get(split)),
    }


def _figures(config: RunConfig, answers: list[ChatAnswer], state: JobState | None) -> dict[str, float | int | None]:
    """Tokens, hours and price of a run, by their names in a record's `efficiency`."""
    asked, answered = (sum(getattr(a, f"{what}_tokens") for a in answers) for what in ("input", "output"))
    trained = 0 if state is None else state.trained_tokens
    return {
        "hosted_trained_tokens": trained,
        "hosted_job_h": None if state is None or state.seconds is None else state.seconds / 3600,
        "hosted_questions": len(answers),
        "hosted_input_tokens": asked,
        "hosted_output_tokens": answered,
        **cost.prices(check.settings(config)),
        "hosted_price": cost.price(check.settings(config), trained=trained, asked=asked, answered=answered),
    }


def foresee(cells: list[PreparedRun], caches: list[Any], emit: Emit) -> None:
    """Emit {"result": for each cell the lines that say what would be sent and what that may cost}."""
    lines = []
    for cell, cache in zip(cells, caches, strict=True):
        sent = rows.load(cell.config, cell.source, cache)
        lines.append(cost.foreseen(cell.config, sent, max_tokens(cell.config, sent)))
    emit({"result": lines})
