"""The sizes of methods at which they train a given number of weights, found by counting, without weights: on the meta
device."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from peftbench.config import sizes
from peftbench.config.types import ModelConfig, RunConfig
from peftbench.errors import NotApplicable, brief
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.models import backbones, checkpoints, parameters
from peftbench.models.checkpoints import Checkpoint
from peftbench.run.estimate import shapes
from peftbench.run.estimate.cells import SMALL, looks_at_values
from peftbench.run.training import optimizer
from peftbench.system.process_group import Emit
from peftbench.tasks.table import build as build_task

#: Which of a run's counts (`models.parameters.count`) each `match` compares.
COUNTED = {"parameters": "adapter", "size": "total"}
#: Sizes that are tried for one budget, at most.
_TRIES = 24
#: A size farther from the last one than this factor is not jumped to.
_JUMP = 8.0
#: A count that is so near to the budget is near enough.
_NEAR = 0.002

#: Weights of a method at a size; None: it has no such size.
Count = Callable[[float], int | None]


def choose(asked: Sequence[tuple[RunConfig, Sequence[str]]], emit: Emit) -> None:
    """Emits as `result`, in a process of its own, what `of` says of each run's budgets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of sizes that are only looked at.
        emit({"result": [of(config, budgets) for config, budgets in asked]})


def of(config: RunConfig, budgets: Sequence[str]) -> dict[str, Any]:
    """`base`: the weights of the model; by budget in `chosen` what it stands for (`wanted`), the `weights`
    nearest to it, and the `values` of `method.size` that have them. Or `refused`: why nothing can be counted."""
    knobs = config.method.size or []
    first = None if not knobs else sizes.at(config, knobs[0])
    try:
        base, usual = base_weights(config), weights(config)
    except Exception as error:  # Torch and peft raise whatever they like; the other methods are looked at.
        return {"refused": brief(error)}
    if first is None:
        own = {"weights": usual, "values": {}}
        return {"base": base, "chosen": {b: {**own, "wanted": target(b, base)} for b in budgets}}
    tried: dict[float, int | None] = {first: usual}

    def count(size: float) -> int | None:
        if size not in tried:
            tried[size] = _tried(config, size)
        return tried[size]

    chosen = {}
    for budget in budgets:
        wanted = target(budget, base)
        size = nearest(count, first, wanted, counts=tried)
        chosen[budget] = {"weights": tried[size], "values": sizes.values(config, size), "wanted": wanted}
    return {"base": base, "chosen": chosen}


def target(budget: str, base: int) -> float:
    """The weights that a budget such as 0.2% or 50000 stands for."""
    return float(budget.removesuffix("%")) / 100 * base if budget.endswith("%") else float(budget)


def base_weights(config: RunConfig) -> int:
    """The weights of a run's model with its task head, before the method."""
    model, _ = _model(config)
    return parameters.count(model, config.model.head)["total"] or 0


def weights(config: RunConfig) -> int:
    """The weights that `config.match` compares, as a record of the run would have them.

    Raises:
        NotApplicable: the method doesn't fit; whatever torch and peft raise for a size that can't be.
    """
    method = build_method(config.method)
    refusal = method.refusal(config)
    if refusal is not None:
        raise NotApplicable(refusal)
    try:
        model, context = _model(config)
        adapted = method.apply(model, context)
    except (RuntimeError, NotImplementedError, NotApplicable) as error:
        if not looks_at_values(error):
            raise
        model, context = _model(config, of_values=True)
        adapted = method.apply(model, context)
    if config.method.lr is not None:  # LoRA-FA freezes weights only then.
        method.optimizer(adapted, optimizer.factory(config.recipe, config.method.lr))
    counts = parameters.count(method.at_the_end(adapted), config.model.head)
    return counts[COUNTED[config.match or "parameters"]] or 0


def _model(config: RunConfig, *, of_values: bool = False) -> tuple[Any, Context]:
    """A run's model on the meta device, or of random values, and what a method is applied with."""
    config = shapes.labelled(config)
    task, shaped = build_task(config), shapes.shaped(config.model)
    tokenizer = _tokenizer(config, shaped)
    task.prepare(tokenizer)
    model = backbones.build_empty(shaped, Checkpoint(None, ""), task)
    backbones.check_length(model, config, task)
    if of_values and sum(p.numel() for p in model.parameters()) <= SMALL:
        model = task.auto_model.from_config(backbones.model_config(shaped, Checkpoint(None, ""), task))
    return model, Context(config.model, task, 100, config.seed, list, tokenizer, config.model_root)


def _tokenizer(config: RunConfig, shaped: ModelConfig) -> Any:
    """Any tokenizer does for counts, but for methods that read what was made with the model's own (a teacher)."""
    if any(config.method.inputs.values()):
        return backbones.load_tokenizer(config.model, checkpoints.locate(config.model, config.model_root))
    return backbones.load_tokenizer(shaped, Checkpoint(None, ""))


def _tried(config: RunConfig, size: float) -> int | None:
    try:
        return weights(sizes.chosen(config, sizes.values(config, size)))
    except Exception:  # That there is no such size, torch, peft and rules say in many ways.
        return None


def nearest(count: Count, usual: float, wanted: float, *, counts: dict[float, int | None]) -> float:
    """The size whose count is nearest to what is wanted, of those that are looked at; of equals the most usual one.

    Counts are taken to grow or to fall with the size, roughly in proportion: the first guesses go by that, later ones
    between the two sizes that have the wanted count between them.

    Args:
        usual: the size of the method's file; a whole number if sizes are.
        counts: sizes with counts; gets every one that is looked at.
    """
    for _ in range(_TRIES):
        guess = _guess(counts, usual, wanted)
        if guess is None:
            break
        counts[guess] = count(guess)
    counted = {size: counted for size, counted in counts.items() if counted is not None}
    return min(counted, key=lambda size: (abs(counted[size] - wanted), abs(math.log(size / usual))))


def _guess(counts: dict[float, int | None], usual: float, wanted: float) -> float | None:
    """The size to look at next; None: nothing nearer is likely."""
    counted = sorted((size, counted) for size, counted in counts.items() if counted is not None)
    if any(abs(number - wanted) <= _NEAR * wanted for _, number in counted):
        return None
    for (low, few), (high, many) in zip(counted, counted[1:], strict=False):
        if min(few, many) < wanted < max(few, many):
            share = (wanted - few) / (many - few)
            return _between(low + share * (high - low), (low, high), counts, usual)
    if len(counted) == 1:  # Twice and half of it tell whether larger sizes have more.
        return next((size for size in (_as(usual, usual * 2), _as(usual, usual / 2)) if size not in counts), None)
    return _beyond(counted, counts, usual, wanted)


def _between(guess: float, between: tuple[float, float], counts: dict[float, int | None], usual: float) -> float | None:
    """A size between two: a guess, or what is nearest to it; once one was refused, first twice the lower and half of
    the upper one."""
    low, high = between
    if any(low < size < high and count is None for size, count in counts.items()):
        for size in (_as(usual, 2 * low), _as(usual, high / 2)):
            if low < size < high and size not in counts:
                return size
    return _free(guess, between, counts, usual)


def _beyond(
    counted: list[tuple[float, int]], counts: dict[float, int | None], usual: float, wanted: float
) -> float | None:
    """A size beyond all that have a count: on the line through the two outermost. Where that turned out to be none,
    twice or half of the outermost (which divides what that divides), the middle on the way, and what lies before it."""
    size, number = min(counted, key=lambda one: abs(one[1] - wanted))
    up = (number < wanted) == (counted[-1][1] >= counted[0][1])
    refused = [other for other, counted in counts.items() if counted is None and (other > size) == up]
    double = _as(usual, size * 2 if up else size / 2)
    if not refused:
        other, its = counted[-2] if up else counted[1]
        line = size + (wanted - number) * (size - other) / (number - its) if number != its else double
        guess = min(max(line, size / _JUMP), size * _JUMP)
        return _free(guess, _ordered(size, guess), counts, usual)
    if double not in counts:
        return double
    end = min(refused, key=lambda other: abs(other - size))
    middle = _free((size + end) / 2, _ordered(size, end), counts, usual)
    return middle or _free(size, _ordered(size, double), counts, usual)


def _ordered(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)


def _as(usual: float, size: float) -> float:
    """A size of the kind that a method's is: a whole number from 1, or one with a few digits."""
    return max(1, round(size)) if isinstance(usual, int) else sizes.short(size)


def _free(guess: float, between: tuple[float, float], counts: dict[float, int | None], usual: float) -> float | None:
    """The nearest size to a guess, within bounds, that wasn't looked at; None: there is none."""
    low, high = between
    if isinstance(usual, int):
        free = [size for size in range(max(1, math.floor(low)), math.ceil(high) + 1) if size not in counts]
        return min(free, key=lambda size: abs(size - guess), default=None)
    candidates = (_as(usual, guess), _as(usual, (low + high) / 2))
    return next((size for size in candidates if low <= size <= high and size not in counts), None)
