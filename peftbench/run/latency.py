"""What it costs to serve adapters of one base: what `peftbench latency` starts by the name of `measure`."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from peft import PeftModel
from torch import nn

from peftbench.data.batch import Batch
from peftbench.errors import ConfigError, brief
from peftbench.models import backbones
from peftbench.run import predict, speed
from peftbench.run.reloading import Reloaded, reload
from peftbench.system.process_group import Emit

#: Rounds that warm up, uncounted.
_WARM_UP = 3
_TEXT = "one film that was made with care and another that was not "
#: Answers a batch; returns the milliseconds that it took.
Call: TypeAlias = Callable[[Batch], float]
#: What peft raises for adapters that it can't put beside each other, or mix in a batch.
_REFUSALS = (ValueError, TypeError, RuntimeError, KeyError, AttributeError, NotImplementedError)


@dataclass
class Served:
    """Adapters on one base model that can be switched.

    Attributes:
        model: the first run's, with the others' adapters beside its own.
        adapters: by run the name of its adapter there.
        load_ms: how long each further adapter took to be read from the disk and put there.
        switch_ms: how long each `set_adapter` took; `mixed_ms`, each batch that mixes them.
        mixed_difference: the largest between a mixed batch's outputs and those of each adapter by itself.
        refused: why no batch can mix them.
    """

    model: PeftModel
    adapters: dict[str, str]
    load_ms: list[float] = field(default_factory=list)
    switch_ms: list[float] = field(default_factory=list)
    mixed_ms: list[float] = field(default_factory=list)
    mixed_difference: float | None = None
    refused: str | None = None


def measure(paths: list[str], how: dict[str, Any], emit: Emit) -> None:
    """Emits {"result": figures}, see `figures`, or {"problem": text} for what is the user's to mend.

    Args:
        paths: of the records.
        how: `batch_size`, `length` (tokens), `rounds`, `model_root`.
    """
    try:
        runs = {_name(run): run for run in (reload(path, model_root=how["model_root"]) for path in paths)}
        check(runs)
        emit({"result": figures(runs, how)})
    except ConfigError as error:
        emit({"result": {"problem": str(error)}})


def check(runs: Mapping[str, Reloaded]) -> None:
    """Raises ConfigError for runs that leave no adapter, or whose bases or formulations differ."""
    first_name, first = next(iter(runs.items()))
    for name, run in runs.items():
        if not isinstance(run.tuner.model, PeftModel):
            raise ConfigError(f"latency: {name} left a whole model; allowed are adapters of one base")
        if run.checkpoint.fingerprint != first.checkpoint.fingerprint:
            raise ConfigError(f"latency: {name} and {first_name} have different bases; allowed are adapters of one")
        if run.task.formulation != first.task.formulation:
            raise ConfigError(f"latency: {name} and {first_name} have different formulations; allowed is one")


def figures(runs: Mapping[str, Reloaded], how: Mapping[str, Any]) -> dict[str, Any]:
    """Medians over rounds in which all that is called takes turns, in milliseconds.

    Returns:
        `rows`: of each model its `name`, `kind` (base, unmerged, merged), `single_ms` (one text) and `batch_ms`;
        `groups`: of each set of adapters on one model `names`, `load_ms`, `switch_ms`, `mixed_ms`, `mixed_difference`
        and `refused`, as `Served` (null where there is one adapter); `threads`.
    """
    first = next(iter(runs.values()))
    base = backbones.load_model(first.config, first.checkpoint, first.task).eval()
    merged = {name: run.method.merge(run.tuner.model) for name, run in runs.items()}
    groups = serve(runs)
    single, batch = (_batch(first, size, how["length"]) for size in (1, how["batch_size"]))
    calls: dict[tuple[str, str], Call] = {("base", "base"): _caller(first, base)}
    for name, run in runs.items():
        group = next(group for group in groups if name in group.adapters)
        calls[name, "unmerged"] = _caller(run, group.model, group.adapters[name])
        if (folded := merged[name]) is not None:
            calls[name, "merged"] = _caller(run, folded.eval())
    for model in (base, *(group.model for group in groups), *merged.values()):
        if model is not None:
            speed.lay_alike(model)
    with torch.inference_mode(), predict.precision(first.config):
        for group in groups:
            _try_mixed(group, runs[next(iter(group.adapters))], batch)
        rows = _rounds(calls, groups, runs, single, batch, rounds=how["rounds"])
    return {"rows": rows, "groups": list(map(_summary, groups)), "threads": torch.get_num_threads()}


def serve(runs: Mapping[str, Reloaded]) -> list[Served]:
    """Every run's adapter on one model with those before it that are of its kind, as far as peft puts them there."""
    groups: dict[tuple[str, int | None], Served] = {}
    alone: list[Served] = []
    for name, run in runs.items():
        model: Any = run.tuner.model.eval()
        kind = str(model.active_peft_config.peft_type), getattr(model.config, "num_labels", None)
        if kind not in groups:
            groups[kind] = Served(model, {name: model.active_adapter})
            continue
        group, start = groups[kind], time.perf_counter()
        adapter = f"served_{len(group.adapters)}"
        try:
            group.model.load_adapter(str(run.run.weights), adapter_name=adapter)
        except _REFUSALS:  # Some tuners take one adapter at a time.
            alone.append(Served(model, {name: model.active_adapter}))
            continue
        group.load_ms.append(1e3 * (time.perf_counter() - start))
        group.adapters[name] = adapter
        group.model.eval()
    return [*groups.values(), *alone]


def _name(run: Reloaded) -> str:
    return f"{run.config.method.name}/{run.record.key[:6]}"


def _batch(run: Reloaded, size: int, length: int) -> Batch:
    """A batch of equal texts of so many tokens: ids, mask and targets (size, length), labels and index (size,)."""
    # The tokenizer's own: some heads look for its special tokens.
    row = run.tokenizer(_TEXT * length, truncation=True, max_length=length)["input_ids"]
    ids, labels = torch.tensor([row] * size), torch.zeros(size, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "index": labels, "targets": ids}


def _caller(run: Reloaded, model: nn.Module, adapter: str | None = None) -> Call:
    """Calls a model with the adapter of that name on; returns the milliseconds of the call alone."""

    def call(batch: Batch) -> float:
        if isinstance(model, PeftModel) and adapter is not None and model.active_adapter != adapter:
            model.set_adapter(adapter)
        inputs = run.tuner.inputs(batch)
        return _timed(lambda: model(**inputs))

    return call


def _timed(call: Callable[[], Any]) -> float:
    """The milliseconds of a call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def mixed(group: Served, run: Reloaded, batch: Batch) -> torch.Tensor:
    """The outputs of a batch whose rows go to one adapter after the other."""
    names = list(group.adapters.values())
    rows = [names[i % len(names)] for i in range(len(batch["input_ids"]))]
    logits: torch.Tensor = group.model(**run.tuner.inputs(batch), adapter_names=rows).logits
    return logits


def _try_mixed(group: Served, run: Reloaded, batch: Batch) -> None:
    """Find out whether a batch can mix the adapters of a group: some tuners say no, others answer with one of them."""
    if len(group.adapters) < 2:
        group.refused = "there is one adapter"
        return
    try:
        together = mixed(group, run, batch)
    except _REFUSALS as error:
        group.refused = brief(error)
        return
    size, differences = 1.0, [0.0]
    for number, adapter in enumerate(group.adapters.values()):
        group.model.set_adapter(adapter)
        rows = slice(number, None, len(group.adapters))
        own = group.model(**run.tuner.inputs(batch)).logits[rows]
        if len(own):
            size = max(size, own.abs().max().item())
            differences.append((own - together[rows]).abs().max().item())
    group.mixed_difference = max(differences)
    if group.mixed_difference > size * (1e-2 if together.dtype == torch.bfloat16 else 1e-3):
        group.refused = f"its answers aren't each adapter's own (they differ by {group.mixed_difference:.1e})"


def _rounds(
    calls: Mapping[tuple[str, str], Call],
    groups: Sequence[Served],
    runs: Mapping[str, Reloaded],
    single: Batch,
    batch: Batch,
    *,
    rounds: int,
) -> list[dict[str, Any]]:
    """The rows of `figures`; what is measured of a group goes into it."""
    times: dict[tuple[str, str], tuple[list[float], list[float]]] = {which: ([], []) for which in calls}
    for number in range(_WARM_UP + rounds):
        for which, call in calls.items():
            taken = call(single), call(batch)
            for measured, ms in zip(times[which], taken, strict=True):
                measured += [ms] if number >= _WARM_UP else []
        for group in groups:
            _turn(group, runs[next(iter(group.adapters))], batch, counts=number >= _WARM_UP)
    return [
        {"name": name, "kind": kind, "single_ms": _median(one), "batch_ms": _median(several)}
        for (name, kind), (one, several) in times.items()
    ]


def _turn(group: Served, run: Reloaded, batch: Batch, *, counts: bool) -> None:
    """Switch to each adapter of a group and answer one mixed batch."""
    if len(group.adapters) < 2:
        return
    switches = [_timed(functools.partial(group.model.set_adapter, name)) for name in group.adapters.values()]
    group.switch_ms += switches if counts else []
    if group.refused is None:
        ms = _timed(lambda: mixed(group, run, batch))
        group.mixed_ms += [ms] if counts else []


def _summary(group: Served) -> dict[str, Any]:
    return {
        "names": list(group.adapters),
        "load_ms": _median(group.load_ms),
        "switch_ms": _median(group.switch_ms),
        "mixed_ms": _median(group.mixed_ms),
        "mixed_difference": group.mixed_difference,
        "refused": group.refused,
    }


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
