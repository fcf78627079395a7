"""What `report` takes on many records: seconds and peak memory of a first report, of another when nothing has changed,
and of one when a record has come. Run by hand.

    python benchmarks/many_records.py [records=100000] [folder=<where they are made>]

The records are made of a published one: methods by data sets by seeds, each with a configuration, a key and scores by
example of its own, so that all are believed, none counts twice, and intervals are of seeds and examples.
"""

import copy
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.results.reading import key_of
from peftbench.results.records import from_dict
from peftbench.results.statistics import kept
from peftbench.results.statistics.answers import Examples

_EXAMPLE = Path("results/published/glue_quick/records/sst2/minilm/lora")
_METHODS, _DATA, _EXAMPLES = 40, 25, 872
#: Seconds after which a file's stamp tells whether it changed.
_SETTLED_S = 3


def make(folder: Path, numbers: range) -> None:
    """Write records into a results folder."""
    example = json.loads(next(iter(sorted(_EXAMPLE.glob("*.json")))).read_text())
    for number in numbers:
        record = _changed(example, number)
        config = record["config"]
        file = folder / "records" / config["dataset"]["name"] / "minilm" / config["method"]["name"]
        file.mkdir(parents=True, exist_ok=True)
        (file / f"{record['key']}.json").write_text(json.dumps(record, indent=1))


def _changed(example: dict[str, Any], number: int) -> dict[str, Any]:
    record = copy.deepcopy(example)
    seed, cell = divmod(number, _METHODS * _DATA)
    method, data = divmod(cell, _DATA)
    record["config"]["seed"] = seed
    record["config"]["method"]["name"] = f"method_{method}"
    record["config"]["method"]["lr"] = 1e-4 * (method + 1)
    record["config"]["dataset"]["name"] = f"data_{data}"
    record["environment"]["data_fingerprint"] = f"{data:016x}"
    generator = np.random.default_rng(number)
    right = (generator.random(_EXAMPLES) < generator.normal(0.8, 0.02)).astype(float)
    by_example = kept.described(kept.keep(Examples(np.arange(_EXAMPLES), right)))
    split = record["metrics"][record["config"]["dataset"]["evaluation"][0]]
    score = float(right.mean())
    split.update({"values": {"accuracy": score}, "score": score, kept.FIELD: by_example})
    record["score"] = score
    record["key"] = key_of(from_dict(record))
    return record


def measure(folder: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a report in a process of its own."""
    code = (
        "import resource, sys; from peftbench.cli import main; status = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "report", f"results_dir={folder}"], capture_output=True, text=True, check=True
    )
    return time.monotonic() - start, int(done.stderr.split()[-1]) / 1e3


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.get("folder", temporary))
        if not (folder / "records").is_dir():
            make(folder, range(int(options.get("records", 100_000))))
        (folder / "cache" / "records.parquet").unlink(missing_ok=True)
        for which in ("first", "nothing changed", "one record came"):
            if which == "one record came":
                there = len(list(folder.glob("records/*/*/*/*.json")))
                make(folder, range(there, there + 1))
            time.sleep(_SETTLED_S)
            seconds, megabytes = measure(folder)
            print(f"{which}: {seconds:.1f} s, {megabytes:,.0f} MB")


if __name__ == "__main__":
    main()
