"""Several processes that make one run: what they add up to is what one process would have had."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crewed
import pytest
import torch
from composed import composed
from conftest import TROUBLE, wait
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from peftbench import child, compose, crew, launchers, optim, paths, ranks, schema, sharding, stop
from peftbench.crew import Member, Outcome
from peftbench.data.encode import part
from peftbench.errors import ConfigError
from peftbench.job import Cell
from peftbench.records import RunRecord
from peftbench.store import ResultStore
from peftbench.worker import _problem

Run = Callable[..., tuple[int, str, str]]

#: An epoch is four batches, of which the last is smaller; evaluated every two steps.
STEPS = 6
SHORT = [f"recipe.max_steps={STEPS}", "recipe.epochs=9", "recipe.eval_steps=2", "recipe.train_samples=30"]


@pytest.fixture
def at(cell: Callable[..., Cell], tmp_path: Path) -> Callable[..., Cell]:
    """A short run on so many devices, in a folder of its own."""

    def make(folder: str, devices: int, *more: str, strategy: str = "ddp") -> Cell:
        strategy = [] if devices == 1 else [f"hardware.devices={devices}", f"hardware.strategy={strategy}"]
        found = cell(*SHORT, *more, *strategy)
        return dataclasses.replace(found, config=dataclasses.replace(found.config, results_dir=str(tmp_path / folder)))

    return make


def losses(found: dict[str, Any]) -> list[float]:
    return [loss for _, loss in found["losses"]]


@pytest.mark.slow
def test_the_small_things_that_ranks_do_together(tmp_path: Path) -> None:
    found = crewed.crew(composed(["hardware=ddp_cpu"]), tmp_path, "sums")
    summed = [[3.0] * 4] * 3
    assert found["gradients"] == [summed, [5.0, 7.0], None, None]
    assert found["all_alike"]
    assert found["share"] == [[0, 1], [2, 3, 4]]
    assert found["empty"] == [[], [0]]
    assert found["interleaved"] == [f"batch {i}" for i in range(5)]
    assert (found["any"], found["told"]) == ([True, False], [0, 0])
    assert found["drawn"][0] != found["drawn"][1]
    assert len(set(found["streams"])) == 1
    assert found["moved"]
    assert found["sent"] == [[0.5, True, 0]] * 2
    assert found["memory"] == {"peak": 11, "peak_per_device": 6, "unknown": None, "unknown_per_device": None}
    assert found["there"] == [False, True]


@pytest.mark.slow
def test_nobody_passes_a_barrier_before_the_last_is_there(tmp_path: Path) -> None:
    waited = crewed.crew(composed(["hardware=ddp_cpu"]), tmp_path, "late", devices=4, seconds=2)
    assert min(waited) > 1.9


def test_alone_there_is_nothing_to_do_together() -> None:
    assert (ranks.world(), ranks.rank(), ranks.is_first()) == (1, 0, True)
    assert list(ranks.share(3)) == [0, 1, 2]
    assert ranks.interleaved([1, 2]) == [1, 2]
    assert ranks.summed({"peak": 3}) == {"peak": 3}
    assert ranks.any_of(True, False) == [True, False]


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
    cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cell("hardware=gpu_ddp", "hardware.devices=3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert _problem(found.config, found.checkpoint) == (
        "hardware.devices=3: torch finds 2 CUDA devices here",
        False,
    )


def test_a_launcher_counts_the_devices_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib isn't installed")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    line = ["seed=0,1,2,3,4,5,6,7", f"results_dir={tmp_path}", "hydra/launcher=joblib"]
    found = compose.plan([*line, "hardware=ddp_cpu"], multirun=True)
    assert (found.launcher.at_once, found.cells[0].hardware.threads) == (4, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    found = compose.plan([*line, "hardware=gpu_ddp"], multirun=True)
    assert (found.launcher.at_once, found.cells[0].hardware.threads) == (2, 2)
    monkeypatch.setattr(launchers.tempfile, "gettempdir", lambda: str(tmp_path))
    with launchers.own_gpu(found.cells[0]):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3,4"  # As another process sees it.
        with launchers.own_gpu(found.cells[0]):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_the_rank_to_blame_is_not_one_that_another_led() -> None:
    gone = Outcome(status="error", error="RuntimeError: [gloo] Connection closed by peer")

    def member(rank: int, said: Outcome | None, *, lost: bool = False) -> Member:
        return Member(rank, None, None, Path(), said, lost, gone=said is None)  # type: ignore[arg-type]

    lost, silent = member(0, gone, lost=True), member(1, None)
    stopped, failed = member(1, Outcome(status="interrupted")), member(1, Outcome(status="error", error="only here"))
    assert crew.blamed([lost, stopped]) is stopped
    assert crew.blamed([lost, silent]) is silent
    assert crew.blamed([lost, failed]) is failed


def test_a_rank_that_another_asked_to_stop_was_not_in_error() -> None:
    assert not stop.asked()
    assert child._status(stop.Interrupted("stopped at step 3")) == "interrupted"
    assert child._status(ValueError("only here")) == "error"


def test_batches_are_halved_from_a_devices_share() -> None:
    config = composed(["recipe.batch_size=9", "hardware=ddp_cpu"])
    assert [schema.micro_batch_size(config, n) for n in range(3)] == [5, 2, 1]


def _by(optimizer: str) -> list[str]:
    return [f"recipe.optimizer._target_=torch.optim.{optimizer}", "~recipe.optimizer.betas", "~recipe.optimizer.eps"]


def test_an_optimiser_is_fused_where_it_can_be_on_weights_that_are_shared_out() -> None:
    recipes = {name: composed(_by(name)).recipe for name in ("AdamW", "SGD")}
    with ranks.alone():
        fused = {name: optim.factory(recipe, 1e-3, sharding.mesh()).keywords for name, recipe in recipes.items()}
    assert fused["AdamW"]["fused"] is True
    assert "fused" not in fused["SGD"]
    assert optim.factory(recipes["SGD"], 1e-3).keywords["fused"] is True


def test_an_optimiser_that_cannot_share_is_refused_before_anything_starts(cell) -> None:
    shared = ["hardware=ddp_cpu", "hardware.strategy=fsdp"]
    refused, taken = (cell(*_by(optimizer), *shared) for optimizer in ("Adafactor", "SGD"))
    reason, not_applicable = _problem(refused.config, refused.checkpoint) or ("", True)
    assert reason.startswith("recipe.optimizer: Adafactor can't step on weights that hardware.strategy=fsdp shares out")
    assert not not_applicable
    assert _problem(taken.config, taken.checkpoint) is None


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
        shared = sharding.shared_state(second, kept)
        assert all(isinstance(state["exp_avg"], DTensor) for state in shared["state"].values())
        second.load_state_dict(shared)
        for (p, mine), (q, theirs) in zip(first.state.items(), second.state.items(), strict=True):
            assert p.shape == q.shape
            assert mine["step"] == theirs["step"] == 1
            assert torch.equal(mine["exp_avg"].full_tensor(), theirs["exp_avg"].full_tensor())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        *(("ddp", method) for method in ("lora", "full", "prefix", "adalora", "lisa")),
        ("fsdp", "lora"),
        ("fsdp", "full"),
    ],
)
def test_two_ranks_have_the_losses_of_one_process(at, tmp_path: Path, strategy: str, method: str) -> None:
    # A batch of 9 is cut into 4 and 5, the last of an epoch, of 1, into 0 and 1.
    more = [f"method={method}", "recipe.batch_size=9", "recipe.train_samples=28"]
    one, shared = crewed.train(at("one", 1, *more)), at("two", 2, *more, strategy=strategy)
    two = crewed.crew(shared.config, tmp_path, "train", cell=shared)
    assert len(losses(one)) == STEPS
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert (two["selected"], two["score"], two["params"]) == (one["selected"], one["score"], one["params"])
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert len(two["weights"]) == 2
    assert len(set(two["weights"])) == 1
    figures = two["figures"]
    assert figures["peak_memory_bytes"] == pytest.approx(sum(two["own_peak"]), rel=0.1)
    assert figures["peak_memory_bytes"] > figures["peak_memory_bytes_per_device"] > 0


ALL = [name for name in paths.choices("method") if composed([f"method={name}"]).method.lr is not None]
#: The first that a method can be applied to is taken.
MODELS = ["tiny_bert", "tiny_llama", "tiny_t5"]
#: Methods with random numbers in their forward pass, which ranks draw each its own.
NOISY = {"diff_pruning", "poly", "pvera"}


@pytest.fixture
def every(at, named) -> Callable[[str], dict[str, list[str]]]:
    """By method the overrides of a run that it can be applied in, on two ranks: all batches of one size."""

    def find(strategy: str) -> dict[str, list[str]]:
        chosen = {}
        for method in ALL:
            for model in MODELS:
                given = [*named(method, model), "recipe.batch_size=8", "recipe.train_samples=32"]
                found = at("one", 2, *given, strategy=strategy)
                if _problem(found.config, found.checkpoint) is None:
                    chosen[method] = given
                    break
        return chosen

    return find


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_takes_the_same_steps_on_two_ranks(at, every, tmp_path: Path) -> None:
    chosen = {strategy: every(strategy) for strategy in ("ddp", "fsdp")}
    # A rank's part is then a micro batch, and a sum of two has one value: to the bit.
    halves = "hardware.micro_batch_size=4"
    alone = {method: at("one", 1, *given, halves) for method, given in chosen["ddp"].items()}
    one = crewed.train_all(alone)
    for strategy, methods in chosen.items():
        cells = {method: at(strategy, 2, *given, strategy=strategy) for method, given in methods.items()}
        two = crewed.crew(composed(["hardware=ddp_cpu"]), tmp_path, "train_all", cells=cells)
        _compare(one, two, strategy)


def _compare(one: dict[str, Any], two: dict[str, Any], strategy: str) -> None:
    """What methods did alone and on two ranks."""
    apart = {m for m in ALL if strategy == "fsdp" and _cannot_share(composed([f"method={m}"]).method)}
    assert len(two) >= len(ALL) - len(apart) - 3
    assert not set(two) & apart
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


def _cannot_share(method: schema.MethodConfig) -> bool:
    return method.sharding is False or bool(method.quantization)


def test_methods_that_look_at_whole_weights_are_refused_where_weights_are_shared_out(cell) -> None:
    named = {m for m in ALL if _cannot_share(composed([f"method={m}"]).method)}
    assert {"galore", "adalora", "qlora"} <= named
    assert "lora" not in named
    for method in ("galore", "qlora"):
        found = cell(f"method={method}", "hardware=gpu_fsdp", "hardware.accelerator=cpu")
        reason, not_applicable = _problem(found.config, found.checkpoint) or ("", False)
        assert "hardware.strategy=fsdp" in reason
        assert not_applicable


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "method"), [("ddp", "adalora"), ("fsdp", "full"), ("fsdp", "lora")])
def test_stopped_on_one_rank_all_stop_and_end_where_they_would_have(
    at, tmp_path: Path, strategy: str, method: str
) -> None:
    def train(folder: str, stop_after: int | None) -> dict[str, Any]:
        found = at(folder, 2, f"method={method}", "recipe.batch_size=8", strategy=strategy)
        return crewed.crew(found.config, tmp_path, "train", cell=found, stop_after=stop_after, drop=True)

    whole, first, second = train("whole", None), train("cut", 3), train("cut", None)
    assert first["said"] == [f"stopped at step 3 of {STEPS}; goes on from there"] * 2
    assert second["resumed"] == [3]
    assert whole["losses"] == [*first["losses"], *second["losses"]]
    assert (whole["weights"], whole["loss"]) == (second["weights"], second["loss"])
    assert len(set(whole["weights"])) == 1


def _only(results: Path) -> RunRecord:
    (record,) = [record for _, record in ResultStore(results).scan()]
    assert isinstance(record, RunRecord)
    return record


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_on_two_ranks_is_one_record(run_cli: Run, tiny, results: Path, strategy: str) -> None:
    more = ["recipe.max_steps=8", "recipe.eval_steps=3", "logger=csv", "hardware.workers=1"]
    line = tiny("hardware=ddp_cpu", f"hardware.strategy={strategy}", *more)
    assert run_cli(*line)[0] == 0
    record = _only(results)
    assert (record.status, record.config["hardware"]["devices"]) == ("completed", 2)
    assert record.metrics["validation"]["n"] == 40  # type: ignore[index]
    figures = record.efficiency or {}
    assert figures["peak_memory_bytes"] > figures["peak_memory_bytes_per_device"]  # type: ignore[operator]
    assert figures["inference_latency_ms"] is not None
    assert figures["micro_batch_size"] == 4
    logs = Path(results, str(record.log)).parent
    assert {file.name for file in logs.glob("*.log")} == {"run.log", "run.rank1.log"}
    assert len(list(logs.rglob("metrics.csv"))) == 1
    for folder in ("predictions", "adapters"):
        assert len([file for file in (results / folder).rglob(f"*{record.key}*")]) == 1
    assert run_cli(*line)[0] == 0
    assert _only(results) == record


def _ranks_of(parent: int) -> dict[str, int]:
    """By rank the processes below a process that are one."""
    found = {}
    for pid in child.descendants(parent):
        log = os.readlink(f"/proc/{pid}/fd/1")
        if Path(log).name in ("run.log", "run.rank1.log"):
            found[Path(log).name] = pid
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run.rank1.log", "run.log"])
def test_a_rank_that_is_killed_takes_the_run_along(start, tmp_path: Path, victim: str) -> None:
    parent = start("hardware=ddp_cpu", "recipe.max_steps=400", "checkpoint_every_s=0")
    wait(lambda: list((tmp_path / "results" / "unfinished").glob("*/state.pt")))
    pids = _ranks_of(parent.pid)
    assert len(pids) == 2
    killed = time.monotonic()
    os.kill(pids[victim], signal.SIGKILL)
    assert parent.wait(60) == 1
    assert time.monotonic() - killed < 30
    assert all(_gone(pid) for pid in pids.values())
    record = _only(tmp_path / "results")
    number = "1" if "rank1" in victim else "0"
    assert record.status == "error"
    assert str(record.error).startswith(f"rank {number}: the process was killed by SIGKILL")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_all_ranks_save_one_state(start, tmp_path: Path, number: int) -> None:
    parent = start("hardware=ddp_cpu", "recipe.max_steps=400", "checkpoint_every_s=0")
    wait(lambda: list((tmp_path / "results" / "unfinished").glob("*/state.pt")))
    parent.send_signal(number)
    assert parent.wait(60) == 130
    record = _only(tmp_path / "results")
    assert record.status == "interrupted"
    assert str(record.error).endswith("of 400; goes on from there")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hungry", "hungry_there"])
def test_memory_that_runs_out_on_one_rank_halves_the_batches_of_all(
    run_cli: Run, tiny, results: Path, trouble: Path, method: str
) -> None:
    assert run_cli(TROUBLE, *tiny(f"method={method}", "hardware=ddp_cpu", "recipe.max_steps=8"))[0] == 0
    record = _only(results)
    assert record.efficiency is not None
    assert (record.efficiency["micro_batch_size"], record.efficiency["oom_halvings"]) == (2, 1)


@pytest.mark.slow
def test_an_error_names_its_rank_and_its_log(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    status, out, _ = run_cli(TROUBLE, *tiny("method=lame", "hardware=ddp_cpu", "recipe.max_steps=8"))
    assert status == 1
    record = _only(results)
    assert record.error == "rank 1: ValueError: only here"
    assert "ValueError: only here" in record.log_tail
    assert str(record.log).endswith("run.rank1.log")


@pytest.mark.slow
def test_ranks_that_hang_are_ended(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    started = time.monotonic()
    assert run_cli(TROUBLE, *tiny("method=hangs", "hardware=ddp_cpu", "recipe.max_steps=8", "timeout_s=15"))[0] == 1
    assert time.monotonic() - started < 60
    assert _only(results).status == "timeout"
    assert _ranks_of(os.getpid()) == {}
