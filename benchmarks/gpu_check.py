"""Tries this project on a CUDA machine, in 8 minutes at the most; prints a table for results/gpu.md.

    python benchmarks/gpu_check.py [limit_s=480] [out=FILE]

One run of every family of models in fp32, bf16 and 4 bits; DDP and FSDP where there are two devices; the tests of
several devices; tokens a second of a decoder of a billion parameters beside a plain loop on the same model, and its
peak memory beside the estimate; and how often a training step waits for the device. Models have random weights: nothing
is downloaded. A part that fails, or that time doesn't suffice for, has its line too. Exit status: 0 all parts passed, 1
one didn't, 2 no CUDA device.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from peftbench.data.batch import Batch
    from peftbench.run.context import RunContext
    from peftbench.run.training.tuner import FineTuner

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("tiny_bert", "tiny_llama", "tiny_t5")
_SHORT = ["dataset=demo", "recipe.max_steps=30", "recipe.eval_samples=64", "recipe.selection=last", "measure_s=2",
          "save_adapters=false"]  # fmt: skip
#: A decoder of 1.1 billion parameters (the shape of Llama 3.2 1B), by `model.config`.
BILLION = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
           "intermediate_size": 8192, "vocab_size": 128256}  # fmt: skip
#: Steps that are timed, after those that warm up.
_STEPS, _WARM_UP = 10, 3


@dataclass(frozen=True)
class Part:
    """A line of the table: what is tried, and the command for it."""

    name: str
    command: list[str]


def parts(devices: int, folder: Path) -> Iterator[Part]:
    """What is tried on a machine with so many devices."""
    run = [sys.executable, "-m", "peftbench", *_SHORT]
    families = f"model={','.join(FAMILIES)}"
    yield Part(
        "every family, fp32", [*run, "method=lora", families, "hardware=gpu", f"results_dir={folder}/fp32", "-m"]
    )
    bf16 = [*run, families, "hardware=gpu_bf16", "-m"]
    yield Part("every family, bf16", [*bf16, "method=lora", f"results_dir={folder}/bf16"])
    if importlib.util.find_spec("bitsandbytes") is not None:
        yield Part("every family, 4 bits", [*bf16, "method=qlora", f"results_dir={folder}/4bit"])
    if devices > 1:
        for name in ("ddp", "fsdp"):
            several = [f"hardware=gpu_{name}", "hardware.devices=2", f"results_dir={folder}/{name}"]
            yield Part(f"two devices, {name}", [*run, "model=tiny_bert", "method=lora", *several])
    yield Part("synchronisations in a step", _own("waits", "cuda", folder))
    yield Part("decoder of a billion parameters", _own("decoder", "cuda", folder))
    tests = ["-n", "0", "-q", "-m", "slow or not slow", "tests/run/test_ranks.py"]
    yield Part("tests of several devices", [sys.executable, "-m", "pytest", *tests])


def _own(part: str, device: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--part", part, device, str(folder / part)]


def attempt(part: Part, seconds: float) -> tuple[bool, str]:
    """Run a part's command. Returns whether it passed, and the table's cell: what it found, or why not."""
    if seconds <= 0:
        return False, "no time left"
    start = time.perf_counter()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(part.command, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False, f"not within {seconds:.0f} s"
    if done.returncode:
        return False, ([line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"])[-1]
    folder = next((word.partition("=")[2] for word in part.command if word.startswith("results_dir=")), None)
    lines = done.stdout.strip().splitlines()
    said = summary(Path(folder)) if folder else lines[-1] if lines else ""
    return True, f"{said} ({time.perf_counter() - start:.0f} s)"


def summary(results: Path) -> str:
    """Of each record of a folder: model, score, training rate, peak memory."""
    from peftbench.results.records import RunRecord
    from peftbench.results.store import ResultStore

    said = []
    for _, record in ResultStore(results).scan():
        if isinstance(record, RunRecord) and record.efficiency is not None and record.score is not None:
            rate, peak = (record.efficiency.get(name) for name in ("train_samples_per_s", "peak_memory_bytes"))
            each = [record.config["model"]["name"], f"{record.score:.3f}"]
            each += [] if rate is None else [f"{rate:.0f}/s"]
            said.append(" ".join([*each, *([] if peak is None else [f"{peak / 1e6:.0f} MB"])]))
    return "; ".join(said)


def job(words: list[str], device: str, folder: Path) -> "RunContext":
    """A run of ours in bf16, located."""
    from peftbench.config import compose
    from peftbench.results.store import ResultStore
    from peftbench.run.context import RunContext
    from peftbench.run.prepared import prepare

    hardware = "gpu_bf16" if device == "cuda" else "cpu_bf16"
    own = [f"hardware={hardware}", "hardware.workers=0", f"results_dir={folder}"]
    run = prepare(compose.one([*_SHORT, *words, *own]))
    return RunContext(run, ResultStore(folder).places(run.config, run.key), [], lambda event: None)


def prepared(words: list[str], device: str, folder: Path) -> "tuple[FineTuner, list[Batch]]":
    """A run's model on a device, and its training batches there."""
    import torch

    from peftbench.data.batch import moved
    from peftbench.run.run import set_up

    tuner, data = set_up(job(words, device, folder))
    there = torch.device(device)
    batches = [moved(batch, there) for batch in data.train_dataloader(_STEPS + _WARM_UP, 0)]
    return tuner.to(device).train(), batches


def optimizer_of(tuner: "FineTuner") -> "torch.optim.Optimizer":
    """An AdamW over what is trained."""
    import torch

    trained = [p for p in tuner.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, fused=True)


def step(tuner: "FineTuner", batch: "Batch", optimizer: "torch.optim.Optimizer") -> None:
    """One training step as a plain loop takes it, under bf16 autocast."""
    import torch

    optimizer.zero_grad()
    with torch.autocast(tuner.device.type, torch.bfloat16):
        loss = tuner.task.losses(tuner(batch), batch).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()


def waits(device: str, folder: Path) -> str:
    """How often a step waits for the device, by family and formulation; on a CPU never, as torch can't tell."""
    import torch

    said = []
    for words in (["model=tiny_bert"], ["model=tiny_llama", "formulation=verbaliser"],
                  ["model=tiny_llama", "formulation=text"]):  # fmt: skip
        tuner, batches = prepared([*words, "method=lora"], device, folder)
        optimizer = optimizer_of(tuner)
        for batch in batches[:_WARM_UP]:
            step(tuner, batch, optimizer)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            step(tuner, batches[_WARM_UP], optimizer)
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        count = sum("synchronizing" in str(warning.message) for warning in caught)
        said.append(f"{' '.join(word.partition('=')[2] for word in words)}: {count}")
    return "; ".join(said)


def decoder(device: str, folder: Path, shape: dict[str, int] = BILLION) -> str:
    """Tokens a second of a decoder's LoRA training as a run of ours, and of a plain loop on the same model and batches;
    the peak of its memory, and what `estimate` says of it."""
    shaped = [f"++model.config.{key}={value}" for key, value in shape.items()]
    words = ["model=tiny_llama", "formulation=text", "method=lora", "recipe.batch_size=16", "measure=false", *shaped]
    ours, peak, longest = _as_a_run(words, device, folder)
    tuner, batches = prepared(words, device, folder / "plain")
    optimizer = optimizer_of(tuner)
    for batch in batches[:_WARM_UP]:
        step(tuner, batch, optimizer)
    _settle(device)
    start = time.perf_counter()
    for batch in batches[_WARM_UP:]:
        step(tuner, batch, optimizer)
    _settle(device)
    tokens = sum(int(tuner.task.inputs(batch)["attention_mask"].sum()) for batch in batches[_WARM_UP:])
    plain = tokens / (time.perf_counter() - start)
    size = sum(p.numel() for p in tuner.parameters()) / 1e9
    rates = f"a run {ours:,.0f} tokens/s, a plain loop {plain:,.0f}"
    return f"{size:.2f} billion weights: {rates}; a run's peak {peak / 1e9:.2f} GB, {estimated(words, device, longest)}"


def estimated(words: list[str], device: str, length: int) -> str:
    """What `estimate` says of a run's tensors at their peak, with examples of so many tokens; or why it can't."""
    from peftbench.run.estimate import cells

    emitted: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cells.estimate([(job(words, device, Path(folder)).config, {"length": length})], emitted.append)
    (cell,) = emitted[-1]["result"]["cells"]
    return f"not estimated: {cell['refused']}" if "refused" in cell else f"estimated {cell['peak_bytes'] / 1e9:.2f} GB"


def _as_a_run(words: list[str], device: str, folder: Path) -> tuple[float, float, int]:
    """Tokens a second and peak bytes of a run's training, and the tokens of its longest example."""
    from peftbench.run.run import set_up, train
    from peftbench.run.training.meter import PeakMemory

    memory, context = PeakMemory(), job(words, device, folder / "run")
    tuner, data = set_up(context)
    figures = train(context, tuner, data, memory).figures
    longest = int(data.train.lengths.max())
    return float(figures["train_tokens_per_s"]), float(figures["peak_memory_bytes"]), longest


def _settle(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def table(rows: list[tuple[str, bool, str]]) -> str:
    """Markdown: the machine, and a line for each part."""
    from peftbench.run import environment

    machine = environment.describe()
    gpu = machine.get("gpu") or machine.get("gpus") or "no GPU"
    lines = [
        f"{gpu}, {machine['cpu']}, torch {machine['packages']['torch']}; made by `python benchmarks/gpu_check.py`."
    ]
    lines += ["", "| what | passed | found |", "|---|---|---|"]
    cells = ((name, "yes" if passed else "no", said.replace("|", "/")) for name, passed, said in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def main(arguments: list[str]) -> int:
    """Try all parts in turn; returns the exit status."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    if arguments[:1] == ["--part"]:
        _, own, device, place = arguments
        print({"waits": waits, "decoder": decoder}[own](device, Path(place)))
        return 0
    import torch

    if not torch.cuda.is_available():
        print("gpu_check: torch finds no CUDA device here", file=sys.stderr)
        return 2
    options = dict(argument.partition("=")[::2] for argument in arguments)
    end, rows = time.monotonic() + float(options.get("limit_s", 480)), []
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(torch.cuda.device_count(), Path(folder)):
            rows.append((part.name, *attempt(part, end - time.monotonic())))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if "out" in options:
        Path(options["out"]).write_text(table(rows))
    return 0 if all(passed for _, passed, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
