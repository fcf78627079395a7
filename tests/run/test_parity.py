"""`FineTuner` against a plain loop that shares nothing with it but the batches."""

import math
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch

from peftbench.data.datamodule import TaskDataModule
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import backbones
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.tuner import FineTuner
from peftbench.tasks.shared import NOT_INPUTS
from peftbench.tasks.table import build as build_task
from tests.helpers import hub_sets

STEPS = 20


def _setup(found: PreparedRun):
    config = found.config
    torch.manual_seed(config.seed)
    task = build_task(config)
    tokenizer = backbones.load_tokenizer(config.model, found.checkpoint)
    data = TaskDataModule(
        config, task, tokenizer, source=found.source, tokenizer_fingerprint="t", cache=_cache(config.results_dir)
    )
    data.setup()
    method = build(config.method)
    context = Context(config.model, task, STEPS, config.seed, list)
    model = method.apply(backbones.load_model(config, found.checkpoint, task), context)
    return task, method, model.train(), data.train_dataloader()


def _cache(root: str):
    from peftbench.results.store import ResultStore

    return ResultStore(root).cache


def _plain_loop(model, loader, *, lr, clip, decay, warmup_ratio, micro, half, choices=1):
    """Thirty lines of PyTorch: accumulation, clipping, a linear schedule with warm-up, decay on matrices.

    choices: sequences of an example, compared by one logit each.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # The same kernel: where another rounds otherwise, 20 steps carry that past 1e-6.
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=True)
    warmup, losses, step = math.ceil(STEPS * warmup_ratio), [], 0
    while step < STEPS:
        for batch in loader:
            rate = step / warmup if step < warmup else 1 - (step - warmup) / (STEPS - warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            labels, total = batch["labels"], 0.0
            optimizer.zero_grad()
            for start in range(0, len(labels), micro):
                rows, lines = slice(start, start + micro), slice(start * choices, (start + micro) * choices)
                inputs = {k: batch[k][lines] for k in batch if k not in NOT_INPUTS}
                longest = int(inputs["attention_mask"].sum(1).max())
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):  # The forward pass alone.
                    logits = model(**{k: v[:, :longest] for k, v in inputs.items()}).logits.float()
                logits = logits if choices == 1 else logits.view(-1, choices)
                loss = torch.nn.functional.cross_entropy(logits, labels[rows]) * (len(labels[rows]) / len(labels))
                loss.backward()
                total += loss.item()
            # In the groups' order: a sum of floats depends on it.
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], clip)
            optimizer.step()
            losses.append(total)
            step += 1
            if step == STEPS:
                break
    return losses


@pytest.mark.parametrize(
    ("method", "precision", "dataset"),
    [
        ("full", "32-true", "sst2"),
        ("lora", "32-true", "sst2"),
        ("full", "bf16-mixed", "sst2"),
        ("lora", "bf16-mixed", "sst2"),
        ("full", "32-true", "copa"),
        ("lora", "32-true", "copa"),
    ],
)
def test_losses_equal_those_of_a_plain_loop(
    cell: Callable[..., PreparedRun], tmp_path: Path, method: str, precision: str, dataset: str
) -> None:
    hub_sets.write(tmp_path, {"train": 80, "validation": 8}, folder="super_glue", config="copa")
    more = [f"data_root={tmp_path}", "recipe.max_length=120"] if dataset == "copa" else []
    # 72 examples in batches of 10 cut into parts of at most 5: the last batch of an epoch holds 2.
    sizes = ["recipe.batch_size=10", "hardware.micro_batch_size=5", f"recipe.max_steps={STEPS}"]
    found = cell(f"dataset={dataset}", f"method={method}", *more, *sizes)
    config = found.config
    task, _, model, loader = _setup(found)
    torch.manual_seed(7)
    expected = _plain_loop(
        model,
        loader,
        lr=config.method.lr,
        clip=config.recipe.gradient_clip,
        decay=config.recipe.weight_decay,
        warmup_ratio=config.recipe.warmup_ratio,
        micro=5,
        half=precision == "bf16-mixed",
        choices=2 if dataset == "copa" else 1,
    )

    task, adaptation, model, loader = _setup(found)
    tuner = FineTuner(
        model, task=task, method=adaptation, recipe=config.recipe, micro_batch_size=5, total_steps=STEPS
    ).train()
    losses: list[float] = []
    tuner._look = lambda loss: losses.append(loss.item())  # type: ignore[method-assign]
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=STEPS,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    torch.manual_seed(7)  # Dropout draws the same masks in both loops.
    trainer.fit(tuner, loader)
    assert len(losses) == STEPS
    assert losses == pytest.approx(expected, rel=1e-6)
    assert len(set(losses)) == STEPS


def test_the_head_learns_at_a_rate_of_its_own_where_the_method_says_so(cell: Callable[..., PreparedRun]) -> None:
    found = cell("method=lora", "+method.head_lr=0.02")
    task, method, model, _ = _setup(found)
    tuner = FineTuner(
        model,
        task=task,
        method=method,
        recipe=found.config.recipe,
        micro_batch_size=None,
        total_steps=STEPS,
        head=found.config.model.head,
    )
    (optimizer,), _ = tuner.configure_optimizers()
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    trained = {name: rates.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}
    assert not rates
    assert {rate for name, rate in trained.items() if "classifier" in name} == {0.02}
    assert {rate for name, rate in trained.items() if "classifier" not in name} == {found.config.method.lr}
