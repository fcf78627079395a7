"""What decides shapes is known to the host: a step never waits for the device to say it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from peftbench.data.batch import HOST, Batch, moved, part, trim
from tests.helpers.built import Built
from tests.helpers.waits import Waits

LABELS = ["dataset=sst2", "formulation=verbaliser"]
CHOICES = ["dataset=copa", "formulation=verbaliser"]
TEXT = ["dataset=sst2", "formulation=text"]
CASES = [
    ["model=tiny_bert", *LABELS],
    ["model=tiny_llama", *LABELS],
    ["model=tiny_t5", *LABELS],
    ["model=tiny_bert", *CHOICES],
    ["model=tiny_llama", *CHOICES],
    ["model=tiny_t5", *CHOICES],
    ["model=tiny_llama", *TEXT],
    ["model=tiny_t5", *TEXT],
]


@pytest.fixture
def built(made: Any) -> Callable[..., Built]:
    return lambda *words: Built(made("method=full", *words))


def _batch(case: Built) -> Batch:
    return case.data.train.collate(list(range(6)))


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_a_step_reads_nothing_off_the_device(built: Callable[..., Built], words: list[str]) -> None:
    """Inputs, loss terms and micro batches of a task; what the model itself does is the model's."""
    case = built(*words)
    batch = _batch(case)
    on_device = [tensor for name, tensor in batch.items() if name not in HOST]
    with Waits(on_device) as waits:
        inputs, terms, half = case.task.inputs(batch), case.task.terms(batch), part(batch, 0, 3)
        case.task.inputs(half)
    outputs = case.model(**inputs)
    with Waits([*on_device, outputs.logits]) as after:
        losses = case.task.losses(outputs, batch)
        case.task.predictions(outputs, batch) if not case.task.generates else None
    assert (waits.names, after.names) == ([], [])
    assert terms == len(losses)


def test_what_reads_a_followed_tensor_is_seen() -> None:
    there, here = torch.arange(4), torch.arange(4)
    with Waits([there]) as waits:
        int((there + 1).max())
        here[there > 1]
        int(here.max())
    assert waits.names == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_lengths_are_those_of_the_mask_in_every_part(built: Callable[..., Built], words: list[str]) -> None:
    batch = _batch(built(*words))
    for one in (batch, part(batch, 0, 4), part(batch, 2, 3)):
        assert torch.equal(one["lengths"], one["attention_mask"].sum(dim=1))
        bare = {name: tensor for name, tensor in one.items() if name not in ("lengths", "answers")}
        for name, tensor in trim(bare).items():
            assert torch.equal(tensor, trim(one)[name])
        if "targets" in one:
            assert torch.equal(one["answers"], (one["targets"] >= 0).sum(dim=1))


@pytest.mark.parametrize("words", [CASES[3], CASES[4], CASES[6]], ids=" ".join)
def test_answers_are_put_in_their_places(built: Callable[..., Built], words: list[str]) -> None:
    """Against sequences that are put together one by one."""
    case = built(*words)
    batch, mask = _batch(case), case.task.mask  # type: ignore[attr-defined]
    lines = []
    for ids, real, answer in zip(batch["input_ids"], batch["attention_mask"], batch["targets"], strict=True):
        text, said = ids[: int(real.sum())].tolist(), answer[answer >= 0].tolist()
        place = None if case.config.model.family == "decoder" else text.index(mask)
        lines.append(text + said if place is None else text[:place] + [mask] * len(said) + text[place + 1 :])
    inputs = case.task.inputs(batch)
    wanted = pad_sequence([torch.tensor(line) for line in lines], batch_first=True, padding_value=case.task.pad)  # type: ignore[attr-defined]
    assert torch.equal(inputs["input_ids"], wanted)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [len(line) for line in lines]


def test_counts_stay_in_main_memory() -> None:
    batch = {"input_ids": torch.ones(2, 3), "lengths": torch.tensor([3, 2]), "sequences": torch.tensor([2])}
    there = moved(batch, torch.device("meta"))
    assert {name: tensor.device.type for name, tensor in there.items()} == {
        "input_ids": "meta",
        "lengths": "cpu",
        "sequences": "cpu",
    }


def test_a_gpus_batches_are_copied_beside_what_it_does_and_are_pinned(built: Callable[..., Built]) -> None:
    tensor = Mock()
    moved({"input_ids": tensor}, torch.device("cuda"))
    tensor.to.assert_called_once_with(torch.device("cuda"), non_blocking=True)
    case = built(*CASES[0])
    for accelerator, pinned in (("cpu", False), ("gpu", True)):
        case.data.config = replace(case.config, hardware=replace(case.config.hardware, accelerator=accelerator))
        assert case.data.batches(case.data.train).pin_memory is pinned


@pytest.mark.parametrize("words", [*CASES, ["model=tiny_bert", "dataset=mrpc"]], ids=" ".join)
def test_a_gpus_batches_are_as_wide_as_a_multiple_of_eight(built: Callable[..., Built], words: list[str]) -> None:
    """On a CPU widths stay: other ones would draw other dropout."""
    case = built(*words, "recipe.max_length=62")
    on_cpu = case.data.batches(case.data.train)
    hardware = replace(case.config.hardware, accelerator="gpu")
    case.data.config = replace(case.config, hardware=hardware)
    on_gpu = case.data.batches(case.data.train)
    indices = list(range(6))
    plain, wide = on_cpu.collate_fn(indices), on_gpu.collate_fn(indices)
    assert plain["input_ids"].shape == _batch(case)["input_ids"].shape
    model, task = case.model.eval(), case.task
    for one, other in ((plain, wide), (part(plain, 1, 3), part(wide, 1, 3))):
        narrow, broad = task.inputs(one), task.inputs(other)
        widths = [inputs["input_ids"].shape[1] for inputs in (narrow, broad)]
        assert widths[1] == min(-(-widths[0] // 8) * 8, 62)
        with torch.no_grad():
            expected, got = task.losses(model(**narrow), one), task.losses(model(**broad), other)
        assert torch.allclose(got, expected, atol=1e-5)
