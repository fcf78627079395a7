"""What a run is asked beyond its score: calibration, robustness to changed texts, scores by slice.

Source: Liang et al., HELM, arXiv 2211.09110, section 4.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np

from peftbench import errors
from peftbench.config.types import RunConfig
from peftbench.data import slicing
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.results import scored
from peftbench.results.statistics import calibration, jackknife
from peftbench.results.statistics.intervals import t_quantile
from peftbench.run.context import RunContext
from peftbench.run.evaluation import Predictions, predict
from peftbench.run.training.tuner import FineTuner, gather


def is_asked(config: RunConfig) -> bool:
    """True if anything is evaluated beyond the score."""
    return config.evaluation is not None or bool(config.dataset.slices)


def evaluated(
    context: RunContext, tuner: FineTuner, data: TaskDataModule, trainer: L.Trainer, predictions: Predictions
) -> tuple[dict[str, Any] | None, list[str]]:
    """A record's `evaluation`, of the split that the score is of, and footnotes. A failure mustn't cost the score."""
    config, split = context.config, data.headline[0]
    examples = data.slices.get(split)
    if examples is None or examples.hidden:
        return None, [scored.unmeasured(config.method.name, scored.BEYOND, "the labels are hidden")]
    context.emit({"event": "phase", "phase": "evaluating beyond the score"})
    plain, asked = gather(predictions[split]), config.evaluation
    made: dict[str, Any] = dict.fromkeys(("calibration", "robustness", "slices"))
    try:
        if asked is not None and asked.calibration:
            made["calibration"] = calibrated(tuner, data, predictions, split)
        if asked is not None and asked.perturbations:
            made["robustness"] = {
                name: perturbed(trainer, tuner, data, plain, split, name, asked.seed) for name in asked.perturbations
            }
        if config.dataset.slices:
            columns = {name: data.column(split, name) for name in config.dataset.slices}
            made["slices"] = {
                name: by_value(tuner, plain, examples, values, down=_down(config)) for name, values in columns.items()
            }
        return made, []
    except errors.Interrupted:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("beyond the score")
        return None, [scored.unmeasured(config.method.name, scored.BEYOND, type(error).__name__)]


def _down(config: RunConfig) -> bool:
    """True if a lower score is better."""
    return set(config.dataset.metrics.values()) == {"min"}


def calibrated(
    tuner: FineTuner, data: TaskDataModule, predictions: Mapping[str, Any], split: str
) -> dict[str, float | int | None] | None:
    """`calibration.figures` of a split, the temperature fitted on the selection split; None where answers have no
    probabilities: texts, and numbers."""
    examples, selection = data.slices[split], data.slices.get("selection")
    assert examples is not None
    if tuner.task.generates or examples.labels.is_floating_point() or examples.candidates is not None:
        return None
    logits = gather(predictions[split])
    if logits.shape[1] < 2:
        return None
    fitted = None
    if selection is not None and not selection.hidden:
        fitted = (gather(predictions["selection"]), selection.labels.numpy())
    return calibration.figures(logits, examples.labels.numpy(), fitted)


def perturbed(
    trainer: L.Trainer, tuner: FineTuner, data: TaskDataModule, plain: Any, split: str, name: str, seed: int
) -> dict[str, Any]:
    """The score of a split whose texts are changed, and what it is below the score (`drop`; where less is better, above
    it), with the 95 % interval of the paired difference over examples (None: a metric has no value by example).

    Args:
        plain: the predictions of the unchanged split, (n, ...) or n texts.
    """
    before = data.slices[split]
    after, changed = data.perturbed(split, name, seed)
    assert before is not None
    answers = gather(predict(trainer, tuner, data.batches(after)))
    sign = -1 if _down(data.config) else 1
    score = score_of(tuner, answers, after)
    drop = sign * (score_of(tuner, plain, before) - score)
    made = {"n": len(before), "changed": changed, "score": score, "drop": drop, "drop_low": None, "drop_high": None}
    values = [by_example(tuner, *pair) for pair in ((plain, before), (answers, after))]
    if values[0] is None or values[1] is None or len(values[0]) < 2:
        return made
    lost = sign * (values[0] - values[1])
    half = t_quantile(len(lost) - 1) * float(lost.std(ddof=1)) / len(lost) ** 0.5
    return {**made, "drop_low": drop - half, "drop_high": drop + half}


def by_value(tuner: FineTuner, predictions: Any, examples: Encoded, values: list[Any], *, down: bool) -> dict[str, Any]:
    """The score of the examples that have a value in common, by value, and the value whose score is `worst`.

    Args:
        values: (n,) a column's value for each example.
        down: whether less is better.
    """
    names, groups = slicing.names(values), {}
    for name in sorted(set(names)):
        chosen = [index for index, other in enumerate(names) if other == name]
        groups[name] = {
            "n": len(chosen),
            "score": score_of(tuner, _taken(predictions, chosen), _only(examples, chosen)),
        }
    least = max if down else min
    return {"groups": groups, "worst": least(groups, key=lambda name: groups[name]["score"])}


def _taken(predictions: Any, chosen: list[int]) -> Any:
    return [predictions[i] for i in chosen] if isinstance(predictions, list) else predictions[chosen]


def _only(examples: Encoded, chosen: list[int]) -> Encoded:
    """Some examples, with what scoring them needs; their tokens stay those of all."""
    pick = [getattr(examples, name) for name in ("references", "candidates")]
    references, candidates = (None if part is None else [part[i] for i in chosen] for part in pick)
    groups = examples.groups
    if groups is not None:  # Numbered from 0 on, as they are in a whole split.
        groups = groups[chosen].unique(return_inverse=True)[1]
    return replace(
        examples,
        labels=examples.labels[chosen],
        rows=examples.rows[chosen],
        groups=groups,
        references=references,
        candidates=candidates,
    )


def score_of(tuner: FineTuner, predictions: Any, examples: Encoded) -> float:
    """The mean of the data set's metrics."""
    values = tuner.task.score(predictions, examples)
    return sum(values.values()) / len(values)


def by_example(tuner: FineTuner, predictions: Any, examples: Encoded) -> np.ndarray | None:
    """(units,) pseudo-values of the score; None where a metric has none."""
    names = tuner.task.metrics
    if tuner.task.generates or examples.candidates is not None or not set(names) <= set(jackknife.METRICS):
        return None
    answers, labels = tuner.task.decide(predictions), examples.labels.numpy()
    numbers = np.arange(len(labels)) if examples.groups is None else examples.groups.numpy()
    units = np.unique(numbers, return_inverse=True)[1]
    return np.asarray(np.mean([jackknife.METRICS[name](answers, labels, units).values for name in names], axis=0))
