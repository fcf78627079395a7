"""Latency of adapted models side by side, in one process. Run by hand; it prints a table.

    python benchmarks/latency.py data_root=<folder with glue/> [rounds=30] [methods=hiwi,lora,houlsby]

MiniLM, SST-2's validation split, one example at a time, one thread, 32-bit. In every round each variant answers the
same examples, in an order that changes; CPU seconds of the thread are counted, so that other processes matter little.
A ratio is the median of the rounds' ratios to the base. Adapters are moved off their start and not trained: shapes
decide.
"""

import random
import statistics
import sys
import time
from typing import Any

EXAMPLES = 12


def _variants(methods: list[str], data_root: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import torch

    from peftbench.config import compose
    from peftbench.data.datamodule import TaskDataModule
    from peftbench.methods.base import Context
    from peftbench.methods.build import build
    from peftbench.models import backbones, dropout
    from peftbench.results.store import ResultStore
    from peftbench.run.prepared import prepare
    from peftbench.run.speed import lay_alike
    from peftbench.tasks.table import build as build_task

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    batches: list[dict[str, Any]] = []
    for method in methods:
        cell = prepare(compose.one([f"method={method}", "dataset=sst2", f"data_root={data_root}"]))
        task, tokenizer = build_task(cell.config), backbones.load_tokenizer(cell.config.model, cell.checkpoint)
        if not batches:
            cache = ResultStore(cell.config.results_dir).cache
            data = TaskDataModule(
                cell.config, task, tokenizer, source=cell.source, tokenizer_fingerprint="latency", cache=cache
            )
            data.setup()
            examples = data.slices["validation"]
            assert examples is not None
            batches = [task.inputs(examples.collate([i * len(examples) // EXAMPLES])) for i in range(EXAMPLES)]
            found["base"] = backbones.load_model(cell.config, cell.checkpoint, task)
            dropout.install(found["base"])
            lay_alike(found["base"].eval())
        context = Context(cell.config.model, task, 1, 0, list, tokenizer)
        built = build(cell.config.method)
        model = built.apply(backbones.load_model(cell.config, cell.checkpoint, task), context)
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(0.01 * torch.randn_like(p))
        dropout.install(model)
        found[method] = model.eval()
        lay_alike(model)
        merged = built.merge(model)
        if merged is not None:
            found[f"{method}, merged"] = merged.eval()
    return found, batches


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        print(__doc__)
        return

    import torch

    given = dict(argument.split("=", 1) for argument in arguments)
    methods = given.get("methods", "lora,hiwi,pfeiffer,parallel,compacter,houlsby").split(",")
    models, batches = _variants(methods, given["data_root"])
    seconds: dict[str, list[float]] = {name: [] for name in models}
    names, draw = list(models), random.Random(0)
    with torch.inference_mode():
        for number in range(int(given.get("rounds", 30)) + 2):
            draw.shuffle(names)
            for name in names:
                start = time.thread_time()
                for batch in batches:
                    models[name](**batch)
                if number >= 2:  # The first two rounds warm up.
                    seconds[name].append((time.thread_time() - start) / len(batches))
    print("| variant | CPU ms an example | of the base |\n|---|---|---|")
    for name in models:
        ratios = [own / base for own, base in zip(seconds[name], seconds["base"], strict=True)]
        print(f"| {name} | {1e3 * statistics.median(seconds[name]):.2f} | {statistics.median(ratios):.3f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
