"""Overrides that make a run short, made-up data, records, and waiting: for tests of several rooms."""

import importlib.util
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peftbench.results.store import ResultStore
from tests.helpers.composed import trained

ASSETS = Path(__file__).parents[1] / "assets"

#: The fixture `run_cli`: exit status, standard output, standard error.
Run = Callable[..., tuple[int, str, str]]


#: Where the methods are that meet trouble.
TROUBLE = f"--config-dir={ASSETS / 'trouble'}"


#: Overrides that make a run last a second.
TINY = ["model=tiny_bert", "dataset=sst2", "recipe.epochs=1", "recipe.batch_size=8", "recipe.max_length=48"]


def write_split(folder: Path, split: str, columns: dict[str, list[Any]]) -> Path:
    """One Parquet file, named as the hub names it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{split}-00000-of-00001.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def sentences(count: int, seed: int) -> dict[str, list[Any]]:
    """Sentences whose last word gives the label away, so that a model can fit them."""
    rng = random.Random(seed)
    labels = [i % 2 for i in range(count)]
    words = "it was a film about some people who did this and that".split()
    texts = [" ".join(rng.sample(words, rng.randint(2, 9))) + (" awful", " superb")[label] for label in labels]
    return {"sentence": texts, "label": labels, "idx": list(range(count))}


#: Methods that `fitting` finds no model for, and why. Any other that it finds none for is a mistake.
NOT_HERE = {"loftq": "needs a CUDA device", "xlora": "peft doesn't save its classifier"}


if importlib.util.find_spec("bitsandbytes") is None:
    packed = [name for name, file in trained().items() if "quantization" in file]
    NOT_HERE |= dict.fromkeys(packed, "the extra quantised isn't installed")


def records(results: Path) -> list[Any]:
    """All records of a results folder."""
    return [record for _, record in ResultStore(results).scan()]


def only(results: Path, status: str) -> Any:
    """The one record of this status."""
    (record,) = [r for r in records(results) if r.status == status]
    return record


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(until: Callable[[], Any], seconds: float = 120) -> Any:
    """Call `until` until it returns something true; returns that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = until()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it didn't happen in time")
