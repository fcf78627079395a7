"""What `estimate` says of the claim that full fine-tuning needs 12 to 20 times the weights' memory, and what estimating
costs itself. Used by estimates.py."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Models of the claim that full fine-tuning needs 12 to 20 times the weights' memory, with batch size and tokens.
CLAIM = {"bert_base": (32, 128), "roberta_large": (32, 128), "llama_8b": (1, 512)}


def peftbench(arguments: Sequence[str], limit_s: float) -> str:
    """The standard output of a command; empty if it failed or took too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "peftbench", *arguments], capture_output=True, text=True, timeout=limit_s, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode:
        print(done.stderr.strip()[-300:], file=sys.stderr)
    return done.stdout if not done.returncode else ""


def claim() -> str:
    """Memory by part, in GB: full fine-tuning, LoRA and prompt tuning, and the peak in units of the model's weights."""
    head = ["model", "method", "batch x tokens", "weights", "gradients", "optimiser", "activations", "temporary"]
    rows = [[*head, "peak", "peak / weights"], ["---"] * (len(head) + 2)]
    for model, (size, length) in CLAIM.items():
        words = [f"model={model}", "method=full,lora,prompt", f"recipe.batch_size={size}", f"length={length}", "-m"]
        for cell in json.loads(peftbench(["estimate", *words, "format=json"], 600))["cells"]:
            parts, peak = cell["parts"], cell["peak_bytes"]
            weights = parts["weights_frozen"] + parts["weights_trained"]
            named = [parts[name] for name in ("gradients", "optimizer", "activations", "temporary")]
            figures = [f"{n / 1e9:.2f}" for n in (weights, *named, peak)]
            rows.append([model, cell["method"], f"{size} x {length}", *figures, f"{peak / weights:.1f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def largest(session: int) -> int:
    """The largest peak of a process of a session so far, in bytes (Linux)."""
    peaks = [0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "status").read_text().splitlines()
                peaks += [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        except OSError:  # It has ended.
            continue
    return max(peaks)


def timed() -> str:
    """Seconds and memory that estimates take: every method on one model, and one run of 8 billion weights."""
    asked = {"all methods on bert_base, 32 x 128": ["method=glob(*)", "model=bert_base", "length=128", "-m"]}
    asked["LoRA on llama_8b, 1 x 512"] = ["method=lora", "model=llama_8b", "recipe.batch_size=1", "length=512"]
    lines = ["| estimated | runs | seconds | largest process, MB |", "|---|---|---|---|"]
    for name, words in asked.items():
        command = [sys.executable, "-m", "peftbench", "estimate", *words, "format=json"]
        began, peak = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as asking:
            assert asking.stdout is not None
            told: list[str] = []
            reader = threading.Thread(target=lambda out=asking.stdout, to=told: to.append(out.read()))
            reader.start()
            while reader.is_alive():
                peak = max(peak, largest(asking.pid))
                reader.join(0.2)
        seconds, cells = time.monotonic() - began, json.loads(told[0])["cells"]
        refused = [cell["method"] for cell in cells if "refused" in cell]
        count = f"{len(cells)}" + (f", {len(refused)} refused" if refused else "")
        lines.append(f"| {name} | {count} | {seconds:.0f} | {peak / 1e6:,.0f} |")
    return "\n".join(lines)
