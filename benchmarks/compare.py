"""Speed and memory against Hugging Face's Trainer and a plain loop. Run by hand; it prints a table and writes it down.

    python benchmarks/compare.py data_root=<folder with glue/> [rounds=3] [out=results/performance.md]

LoRA on MiniLM, SST-2, batch 32. Every contender runs in a fresh process, one after the other, `rounds` times over; a
ratio is the median of the rounds' ratios, so that a machine that changes its speed doesn't decide it. A rate is over
the whole epoch: Trainer's first batches are its longest, and leaving them out as a warm-up would flatter it.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftbench.run.prepared import PreparedRun
    from peftbench.run.training.meter import Memory

EXAMPLES = 1920
OVERRIDES = ["dataset=sst2", f"recipe.train_samples={EXAMPLES}", "recipe.epochs=1", "recipe.selection=last",
             "recipe.eval_samples=64", "save_adapters=false"]  # fmt: skip


def _cell(*more: str) -> "PreparedRun":
    from peftbench.config import compose
    from peftbench.run.prepared import prepare

    return prepare(compose.one([*OVERRIDES, *more]))


def peftbench(*more: str) -> dict[str, float]:
    """A run of ours, as the record has it."""
    from peftbench.results.store import ResultStore
    from peftbench.run.context import RunContext
    from peftbench.run.run import run

    cell = _cell(*more)
    store = ResultStore(cell.config.results_dir)
    job = RunContext(cell, store.places(cell.config, cell.key), [], lambda event: None)
    store.forget(cell.key)  # The state of the round before: nothing would be left to train.
    record: Any = run(job)
    figures = record.efficiency
    return {"samples_per_s": EXAMPLES / figures["train_time_s"], "peak": figures["peak_memory_bytes"]}


def peftbench_bf16(*more: str) -> dict[str, float]:
    """The same in bfloat16."""
    return peftbench(*more, "hardware=cpu_bf16")


def _parts(*more: str) -> tuple[Any, Any, Any, Any]:
    """Configuration, tokenizer, data and adapted model, as a run has them."""
    import torch

    from peftbench.data.datamodule import TaskDataModule
    from peftbench.methods.base import Context
    from peftbench.methods.build import build
    from peftbench.models import backbones
    from peftbench.results.store import ResultStore
    from peftbench.tasks.table import build as build_task

    cell = _cell(*more)
    torch.manual_seed(0)
    task = build_task(cell.config)
    tokenizer = backbones.load_tokenizer(cell.config.model, cell.checkpoint)
    cache = ResultStore(cell.config.results_dir).cache
    inputs: dict[str, Any] = {
        "source": cell.source,
        "tokenizer_fingerprint": cell.checkpoint.fingerprint,
        "cache": cache,
    }
    data = TaskDataModule(cell.config, task, tokenizer, **inputs)
    data.setup()
    context = Context(cell.config.model, task, 60, 0, list)
    model = build(cell.config.method).apply(backbones.load_model(cell.config, cell.checkpoint, task), context)
    return cell.config, tokenizer, data, model.train()


def _peak(memory: "Memory") -> float:
    """Bytes."""
    peak = memory.peak()["peak_memory_bytes"]
    assert peak is not None, "this system doesn't tell a process's memory"
    return peak


def plain_loop(*more: str) -> dict[str, float]:
    """The same batches, forward, backward, clip and step, nothing else."""
    import torch

    from peftbench.run.training.meter import Memory

    memory = Memory()
    config, _, data, model = _parts(*more)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.method.lr, fused=True)
    start = time.perf_counter()
    for batch in data.train_dataloader():
        optimizer.zero_grad()
        logits = model(**{k: v for k, v in batch.items() if k not in ("labels", "index")}).logits
        torch.nn.functional.cross_entropy(logits, batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return {"samples_per_s": EXAMPLES / (time.perf_counter() - start), "peak": _peak(memory)}


def hf_trainer(*more: str) -> dict[str, float]:
    """Trainer + peft with dynamic padding and grouping by length."""
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    from peftbench.run.training.meter import Memory

    memory = Memory()
    config, tokenizer, data, model = _parts(*more)
    offsets = data.train.offsets.tolist()
    rows = [
        {"input_ids": data.train.tokens[a:b].tolist(), "labels": int(label)}
        for a, b, label in zip(offsets, offsets[1:], data.train.labels, strict=False)
    ]
    times: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times["start"] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times["end"] = time.perf_counter()

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=32,
        num_train_epochs=1,
        learning_rate=config.method.lr,
        warmup_steps=4,
        train_sampling_strategy="group_by_length",
        max_grad_norm=1.0,
        weight_decay=0.01,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collator = DataCollatorWithPadding(tokenizer)
    Trainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=[Clock()]).train()
    return {"samples_per_s": EXAMPLES / (times["end"] - times["start"]), "peak": _peak(memory)}


CONTENDERS = {f.__name__: f for f in (peftbench, plain_loop, hf_trainer, peftbench_bf16)}


def _measure(name: str, options: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _commands(folder: Path) -> dict[str, float]:
    """Whole-process seconds of what must start at once; `report` on 1,000 records."""
    from peftbench.config import identity
    from peftbench.results.records import RunRecord
    from peftbench.results.store import ResultStore
    from peftbench.sweep.cells import plan as plan_cells

    store, sweep = ResultStore(folder), ["method=lora,full,bitfit,prefix", "dataset=sst2,rte,mrpc,cola,qnli"]
    cells = plan_cells([*sweep, f"seed=range({1000 // 20})"], multirun=True).cells
    for i, config in enumerate(cells):
        record = RunRecord(key=f"{i:020d}", status="completed", score=i / 1000, config=identity.description(config),
                           params={"trainable": i, "total": 1000}, efficiency={"train_samples_per_s": 1.0})  # fmt: skip
        store.put(config, record)
    lines = {"--help": ["--help"], "list": ["list", "methods"], "report": ["report", f"results_dir={folder}"]}
    return {name: statistics.median(_seconds(line) for _ in range(5)) for name, line in lines.items()}


def _seconds(line: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "peftbench", *line], capture_output=True, check=True)
    return time.perf_counter() - start


def _fresh_process() -> float:
    """Seconds that a fresh process costs after the first: a child that does nothing."""
    from peftbench.system import process

    with tempfile.TemporaryDirectory() as folder:
        took = []
        for _ in range(6):
            start = time.perf_counter()
            process.call("peftbench.run.verify:verify", [], [], log=Path(folder, "log"))
            took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def main(arguments: list[str]) -> None:
    """Measure and print; `--one <contender>`: that one alone, as a line of JSON."""
    if "--help" in arguments:
        print(__doc__)
        return
    if arguments[0] == "--one":
        print(json.dumps(CONTENDERS[arguments[1]](*arguments[2:])))
        return
    options = dict(a.split("=", 1) for a in arguments)
    rounds, out = int(options.pop("rounds", 3)), options.pop("out", None)
    skipped = options.pop("skip", "").split(",")
    contenders = [name for name in CONTENDERS if name not in skipped]
    with tempfile.TemporaryDirectory() as folder:
        given = [f"{k}={v}" for k, v in options.items()] + [f"results_dir={folder}/r"]
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                measured[name].append(_measure(name, given))
                print(name, measured[name][-1], flush=True)
        commands, fresh = _commands(Path(folder, "many")), _fresh_process()
    text = _table(measured, commands, fresh, rounds)
    print(text)
    if out:
        Path(out).write_text(text)


def _table(measured: dict[str, list[dict[str, float]]], commands: dict[str, float], fresh: float, rounds: int) -> str:
    from peftbench.run import environment

    machine = environment.describe()
    lines = [
        "# Performance",
        "",
        f"{datetime.date.today()}, {machine['cpu']}, {os.cpu_count()} cores, torch {machine['packages']['torch']}; "
        "made by `python benchmarks/compare.py data_root=<folder with glue/>`.",
        f"LoRA on MiniLM, SST-2, batch 32, {EXAMPLES} examples, a fresh process each; medians of {rounds} alternating "
        "rounds; a ratio above 1 means peftbench (fp32) is faster or uses more.",
        "",
        "| contender | samples/s | speed of peftbench : it | peak memory, MB | memory of peftbench : it |",
        "|---|---:|---:|---:|---:|",
    ]
    ours = measured["peftbench"]
    for name, rows in measured.items():
        ratios = {
            key: statistics.median(a[key] / b[key] for a, b in zip(ours, rows, strict=True))
            for key in ("samples_per_s", "peak")
        }
        speed, peak = (statistics.median(row[key] for row in rows) for key in ("samples_per_s", "peak"))
        faster, larger = (f"{ratios[key]:.2f}" for key in ("samples_per_s", "peak"))
        lines.append(f"| {name} | {speed:.1f} | {faster} | {peak / 1e6:,.0f} | {larger} |")
    lines += ["", "| whole process | s |", "|---|---:|"]
    lines += [f"| `peftbench {name}` | {seconds:.2f} |" for name, seconds in commands.items()]
    lines += [f"| a fresh process per run, after the first | {fresh:.2f} |", ""]
    lines.append("`report` reads 1,000 records.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
