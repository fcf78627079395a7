"""Training speed on a quiet machine and beside a busy process, by how long OpenMP's threads spin. Run by hand.

    python benchmarks/busy.py [rounds=5] [spins=1000,10000,100000,300000] [busy=2] [key=value ...]

In every round each number of spins (GOMP_SPINCOUNT) is tried quietly and beside a process of `busy` threads that
compute all the time, in an order that changes; 300,000 is what libgomp takes where nothing is said. Other words are the
run's overrides. It prints the median training rate of the rounds, and the median of the rounds' ratios to 300,000 (else
to the last number given).
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

OVERRIDES = ["recipe.train_samples=1920", "recipe.epochs=1", "recipe.selection=last", "recipe.eval_samples=64",
             "save_adapters=false", "measure=false"]  # fmt: skip

#: Two threads that never wait: hashing lets go of Python's lock.
BUSY = """
import hashlib, sys, threading
def work():
    while True:
        hashlib.sha256(bytes(1 << 24)).digest()
for _ in range(int(sys.argv[1])):
    threading.Thread(target=work).start()
"""


def rate(spins: str, folder: Path, overrides: list[str]) -> float:
    """Training examples a second of one run, as its record has it."""
    line = [sys.executable, "-m", "peftbench", *OVERRIDES, f"results_dir={folder}", *overrides]
    subprocess.run(line, check=True, capture_output=True, env={**os.environ, "GOMP_SPINCOUNT": spins})
    (file,) = (folder / "records").rglob("*.json")
    record = json.loads(file.read_text())
    assert record["environment"]["openmp"]["GOMP_SPINCOUNT"] == spins
    return float(record["efficiency"]["train_samples_per_s"])


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        print(__doc__)
        return
    options = dict(argument.split("=", 1) for argument in arguments)
    rounds, threads = int(options.pop("rounds", 5)), options.pop("busy", "2")
    spins = options.pop("spins", "1000,10000,100000,300000").split(",")
    overrides = [f"{key}={value}" for key, value in options.items()]
    cases = [(number, busy) for number in spins for busy in (False, True)]
    rates: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for index, (count, busy) in enumerate(draw.sample(cases, len(cases))):
                beside = subprocess.Popen([sys.executable, "-c", BUSY, threads]) if busy else None
                try:
                    rates[count, busy].append(rate(count, Path(folder, f"{number}-{index}"), overrides))
                finally:
                    if beside is not None:
                        beside.kill()
                        beside.wait()
                print(f"round {number + 1}: {count} spins, busy={busy}: {rates[count, busy][-1]:.1f}", flush=True)
    first = "300000" if "300000" in spins else spins[-1]
    print("| spins | quiet, samples/s | ratio | busy, samples/s | ratio |\n|---|---:|---:|---:|---:|")
    for count in spins:
        cells = []
        for busy in (False, True):
            ratios = [a / b for a, b in zip(rates[count, busy], rates[first, busy], strict=True)]
            cells += [f"{statistics.median(rates[count, busy]):.1f}", f"{statistics.median(ratios):.2f}"]
        print(f"| {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
