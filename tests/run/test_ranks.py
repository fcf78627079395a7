"""Several processes that make one run: what they add up to is what one process would have had."""

import contextlib
import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from peftbench.config import compose, identity
from peftbench.data.batch import part
from peftbench.errors import ConfigError, NotApplicable
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.run.training import optimizer, sharding
from peftbench.run.training.resume import RunState
from peftbench.run.verify import problem_with
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import gpus, ranks
from tests.helpers import on_ranks
from tests.helpers.composed import composed, trained
from tests.helpers.runs import NOT_HERE

STEPS = 6  # Of the runs that `at` makes.


@pytest.mark.slow
def test_the_small_things_that_ranks_do_together(tmp_path: Path) -> None:
    found = on_ranks.crew(composed(["hardware=ddp_cpu"]), tmp_path, "sums")
    summed = [[3.0] * 4] * 3
    assert found["gradients"] == [summed, [5.0, 7.0], None, None]
    assert found["all_alike"]
    assert found["share"] == [[0, 1], [2, 3, 4]]
    assert found["empty"] == [[], [0]]
    assert found["interleaved"] == [f"batch {i}" for i in range(5)]
    assert found["everywhere"] == [2.0, 2.0]
    assert found["flagged"] == [[False, False], [True, False], [False, False]]
    assert found["told"] == [0, 0]
    assert found["drawn"][0] != found["drawn"][1]
    assert len(set(found["streams"])) == 1
    assert found["moved"]
    assert found["sent"] == [[0.5, True, 0]] * 2
    assert found["memory"] == {"peak": 11, "peak_per_device": 6, "unknown": None, "unknown_per_device": None}
    assert found["there"] == [False, True]


@pytest.mark.slow
def test_nobody_passes_a_barrier_before_the_last_is_there(tmp_path: Path) -> None:
    waited = on_ranks.crew(composed(["hardware=ddp_cpu"]), tmp_path, "late", devices=4, seconds=2)
    assert min(waited) > 1.9


def test_alone_there_is_nothing_to_do_together() -> None:
    assert (ranks.world(), ranks.rank(), ranks.is_first()) == (1, 0, True)
    assert list(ranks.share(3)) == [0, 1, 2]
    assert ranks.interleaved([1, 2]) == [1, 2]
    assert ranks.summed({"peak": 3}) == {"peak": 3}
    assert ranks.Flags().exchange(True, False) == [True, False]


def test_a_part_of_a_batch_lies_in_memory_as_a_batch_does() -> None:
    mask = torch.tensor([[1] * 5, [1] * 3 + [0] * 2, [1] * 2 + [0] * 3])
    answers = mask * 8 - 100 * (1 - mask)
    batch = {"input_ids": mask * 7, "attention_mask": mask, "targets": answers, "labels": torch.zeros(3)}
    half = part(batch, 1, 3)
    assert half["targets"].tolist() == [[8, 8, 8], [8, 8, -100]]
    assert all(tensor.is_contiguous() for tensor in half.values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["hardware.devices=9", "recipe.batch_size=8"], "hardware.devices=9: allowed is nothing above recipe.batch"),
        (["hardware.devices=0"], "hardware.devices=0: allowed is a number at least 1"),
        (["hardware.strategy=dp"], "hardware.strategy=dp: allowed is auto | ddp | fsdp"),
        (["hardware.strategy=fsdp"], "hardware.strategy=fsdp: allowed is auto with hardware.devices=1"),
        (["hardware=ddp_cpu", "hardware.devices=1"], "hardware.strategy=ddp: allowed is auto with hardware.devices=1"),
        (["hardware.devices=2"], "hardware.strategy=auto: allowed is ddp | fsdp with hardware.devices=2"),
    ],
)
def test_devices_that_cannot_be_are_said(given: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.one(given)
    assert str(error.value).startswith(said)


def test_more_gpus_than_there_are_is_said_before_anything_starts(
    cell: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cell("hardware=gpu_ddp", "hardware.devices=3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert problem_with(found.config, found.checkpoint) == (
        "hardware.devices=3: torch finds 2 CUDA devices here",
        False,
    )


def test_a_launcher_counts_the_devices_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib isn't installed")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    line = ["seed=0,1,2,3,4,5,6,7", f"results_dir={tmp_path}", "hydra/launcher=joblib"]
    found = plan_cells([*line, "hardware=ddp_cpu"], multirun=True)
    assert (found.launcher.at_once, found.cells[0].hardware.threads) == (4, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    found = plan_cells([*line, "hardware=gpu_ddp"], multirun=True)
    assert (found.launcher.at_once, found.cells[0].hardware.threads) == (2, 2)
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    with gpus.own_gpu(found.cells[0].hardware.devices):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3,4"  # As another process sees it.
        with gpus.own_gpu(found.cells[0].hardware.devices):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_batches_are_halved_from_a_devices_share() -> None:
    config = composed(["recipe.batch_size=9", "hardware=ddp_cpu"])
    assert [identity.micro_batch_size(config, n) for n in range(3)] == [5, 2, 1]


def _by(optimizer: str) -> list[str]:
    return [f"recipe.optimizer._target_=torch.optim.{optimizer}", "~recipe.optimizer.betas", "~recipe.optimizer.eps"]


def test_an_optimiser_is_fused_where_it_can_be_on_weights_that_are_shared_out() -> None:
    recipes = {name: composed(_by(name)).recipe for name in ("AdamW", "SGD")}
    with ranks.alone():
        fused = {name: optimizer.factory(recipe, 1e-3, sharding.mesh()).keywords for name, recipe in recipes.items()}
    assert fused["AdamW"]["fused"] is True
    assert "fused" not in fused["SGD"]
    assert optimizer.factory(recipes["SGD"], 1e-3).keywords["fused"] is True


def test_an_optimiser_that_cannot_share_is_refused_before_anything_starts(cell) -> None:
    shared = ["hardware=ddp_cpu", "hardware.strategy=fsdp"]
    refused, taken = (cell(*_by(optimizer), *shared) for optimizer in ("Adafactor", "SGD"))
    reason, not_applicable = problem_with(refused.config, refused.checkpoint) or ("", True)
    assert reason.startswith("recipe.optimizer: Adafactor can't step on weights that hardware.strategy=fsdp shares out")
    assert not not_applicable
    assert problem_with(taken.config, taken.checkpoint) is None


def test_an_optimisers_state_is_shared_out_before_it_is_loaded() -> None:
    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = fully_shard(torch.nn.Linear(3, 2), mesh=sharding.mesh())
        return model, torch.optim.AdamW([{"params": [model.bias]}, {"params": [model.weight]}], fused=True)

    with ranks.alone():
        (model, first), (_, second) = made(), made()
        model(torch.ones(1, 3)).sum().backward()
        first.step()
        kept = sharding.saved(first.state_dict())
        assert not any(isinstance(value, DTensor) for state in kept["state"].values() for value in state.values())
        given: list[Any] = []
        second.register_load_state_dict_pre_hook(lambda _, state: given.extend(state["state"].values()))
        _restore(kept, second)
        assert [isinstance(state["exp_avg"], DTensor) for state in given] == [True, True]
        for (p, mine), (q, theirs) in zip(first.state.items(), second.state.items(), strict=True):
            assert p.shape == q.shape
            assert mine["step"] == theirs["step"] == 1
            assert torch.equal(mine["exp_avg"].full_tensor(), theirs["exp_avg"].full_tensor())
        by_name = {**kept, "state": {"a matrix": {"step": 1}}}
        assert sharding.shared_state(second, by_name) == by_name


def _restore(kept: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """As a run that goes on does, but of an optimiser alone."""
    rest = Mock()
    state = RunState(Path(), code={}, every_s=None, select=rest, meter=rest, memory=rest, curve=rest)
    state._state_read = defaultdict(dict, optimizer=kept, memory=[{}], trained=[])
    tuner = SimpleNamespace(method=rest, model=torch.nn.Identity())
    state.restore(tuner, SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=[rest]))  # type: ignore[arg-type]


def losses(found: dict[str, Any]) -> list[float]:
    return [loss for _, loss in found["losses"]]


def on_two(strategy: str) -> list[str]:
    return ["hardware.devices=2", f"hardware.strategy={strategy}"]


def crew(cells: dict[str, PreparedRun], folder: Path, **more: Any) -> dict[str, Any]:
    """What two ranks made of each."""
    return on_ranks.crew(composed(["hardware=ddp_cpu"]), folder, "train_all", cells=cells, **more)


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one_process(at, tmp_path: Path) -> None:
    # A batch of 9 is cut into 4 and 5, the last of an epoch, of 1, into 0 and 1.
    uneven = ["recipe.batch_size=9", "recipe.train_samples=28"]
    given = {method: [f"method={method}", *uneven] for method in ("lora", "full", "prefix", "adalora", "lisa")}
    given["sgd"] = ["method=full", *uneven, *_by("SGD"), "method.lr=0.1"]
    names = {"ddp": given.keys() - {"sgd"}, "fsdp": {"lora", "full", "sgd"}}
    one = on_ranks.train_all({name: at("one", *more) for name, more in given.items()})
    for strategy, methods in names.items():
        two = crew({name: at(strategy, *given[name], *on_two(strategy)) for name in sorted(methods)}, tmp_path)
        for name, found in two.items():
            assert len(losses(one[name])) == STEPS, name
            assert losses(found) == pytest.approx(losses(one[name]), rel=1e-5), name
            assert found["loss"] == pytest.approx(one[name]["loss"], rel=1e-5), name
            for same in ("selected", "score", "params"):
                assert found[same] == one[name][same], name
            assert len(found["weights"]) == 2
            assert len(set(found["weights"])) == 1, name
        # Where it is the process's first.
        first = two[min(methods)]
        figures = first["figures"]
        assert figures["peak_memory_bytes"] == pytest.approx(sum(first["peaks"]), rel=0.1)
        assert figures["peak_memory_bytes"] > figures["peak_memory_bytes_per_device"] > 0


#: Methods with random numbers in their forward pass, which ranks draw each its own.
NOISY = {"diff_pruning", "poly", "pvera"}


def _apart(strategy: str) -> set[str]:
    """Methods that are refused because they need whole weights."""
    refused = {name for name, file in trained().items() if file.get("sharding") is False or file.get("quantization")}
    return refused if strategy == "fsdp" else set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_takes_the_same_steps_on_two_ranks(at, fitting, tmp_path: Path) -> None:
    even, chosen = ["recipe.batch_size=8", "recipe.train_samples=32", "recipe.max_steps=3", "recipe.eval_steps=3"], {}
    for name in trained():
        with contextlib.suppress(NotApplicable):
            chosen[name] = at("one", *fitting(name, *even))
    assert trained().keys() - chosen.keys() <= NOT_HERE.keys()
    # All batches are of one size, and one process takes a rank's part as a micro batch: a sum of two has one value, to
    # the bit.
    alone = {name: _in(found, "one", micro_batch_size=4) for name, found in chosen.items()}
    one = on_ranks.train_all(alone, score=False)
    for strategy in ("ddp", "fsdp"):
        cells = {name: _in(found, strategy, devices=2, strategy=strategy) for name, found in chosen.items()}
        refused = {name for name, found in cells.items() if problem_with(found.config, found.checkpoint) is not None}
        assert refused == _apart(strategy) & chosen.keys()
        taken = {name: found for name, found in cells.items() if name not in refused}
        _compare(one, crew(taken, tmp_path, score=False), strategy)


def _in(found: PreparedRun, folder: str, **hardware: Any) -> PreparedRun:
    """A run in another folder and on other hardware."""
    config, results = found.config, str(Path(found.config.results_dir).with_name(folder))
    changed = dataclasses.replace(config.hardware, **hardware)
    return prepare(dataclasses.replace(config, results_dir=results, hardware=changed))


def _compare(one: dict[str, Any], two: dict[str, Any], strategy: str) -> None:
    """What methods did alone and on two ranks."""
    assert {m for m in two if len(set(two[m]["weights"])) != 1} == set()
    # Nothing is held twice, or everything; a weight of one row is with one rank.
    portions = {m: two[m]["portions"] for m in two}
    assert {m for m in two if sum(portions[m]) != pytest.approx(1 if strategy == "fsdp" else 2)} == set()
    assert strategy == "ddp" or {m for m in two if max(portions[m]) > 0.75} == set()
    alike = set(two) - NOISY
    assert {m for m in alike if losses(two[m]) != pytest.approx(losses(one[m]), rel=1e-5)} == set()
    assert {m for m in alike if two[m]["selected"] != one[m]["selected"]} == set()
    assert {m for m in alike if two[m]["params"] != one[m]["params"]} == set()
    different = {m for m in alike if losses(one[m]) != losses(two[m])}
    # Clipping's norm is summed over shards in another order.
    assert strategy == "fsdp" or len(different) < len(alike) / 10, different


def test_methods_that_need_whole_weights_are_refused_where_weights_are_shared_out(cell) -> None:
    assert {"galore", "adalora", "qlora"} <= _apart("fsdp")
    assert "lora" not in _apart("fsdp")
    for method in ("galore", "qlora"):
        found = cell(f"method={method}", "hardware=gpu_fsdp", "hardware.accelerator=cpu")
        reason, not_applicable = problem_with(found.config, found.checkpoint) or ("", False)
        assert "hardware.strategy=fsdp" in reason
        assert not_applicable


@pytest.mark.slow
def test_stopped_on_one_rank_all_stop_and_end_where_they_would_have(at, tmp_path: Path) -> None:
    cases = {"adalora": "ddp", "full": "fsdp", "lora": "fsdp"}

    def train(folder: str, **more: Any) -> dict[str, Any]:
        cells = {method: at(folder, f"method={method}", *on_two(strategy)) for method, strategy in cases.items()}
        return crew(cells, tmp_path, drop=True, **more)

    everything = train("whole"), train("cut", stop_after=3), train("cut")
    for method in cases:
        whole, first, second = (found[method] for found in everything)
        assert first["said"] == [f"stopped at step 4 of {STEPS}; goes on from there"] * 2, method  # The next one.
        assert second["resumed"] == [4], method
        assert whole["losses"] == [*first["losses"], *second["losses"]], method
        assert (whole["weights"], whole["loss"]) == (second["weights"], second["loss"]), method
        assert len(set(whole["weights"])) == 1, method
