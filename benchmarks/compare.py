"""Speed and memory against Hugging Face's Trainer and a plain loop. Run by hand; prints a table and writes it down.

    python benchmarks/compare.py data_root=DIR [model_root=DIR] [settings=lora,full,labels,dialogsum] [rounds=3]
        [skip=trainer_defaults,...] [n=N] [limit_s=S] [kept=FILE] [counts=perf|callgrind] [out=FILE] [key=value ...]

Every contender trains one epoch in a fresh process, one after the other, `rounds` times over; a ratio is the median of
the rounds' ratios, so that a machine that changes its speed doesn't decide it. A rate is over the whole epoch:
Trainer's first batches are its longest, and leaving them out as a warm-up would flatter it. Trainer groups by length
within min(n / (4 batch), 50) batches: with fewer than 200 batches it would pad more than it has to, so that no setting
has fewer unless `n` says so, and the padded tokens of each contender stand in the table.

`kept` names a file to which each measurement is added as a line; those that are there aren't made again. So the whole
can be made in parts, each of `limit_s` seconds at the most (no measurement is begun after that). `counts` adds
instructions an example (the difference between n and 2n examples), in processes of their own: by perf, or by callgrind,
which takes fifty times as long. Further words are overrides of all runs (`model=tiny_bert`, `hardware.threads=1`).
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import CONTENDERS
from tables import commands_table, settings_table

#: By name the words of a setting, and its examples.
SETTINGS: dict[str, tuple[list[str], int]] = {
    "lora": (["model=minilm", "method=lora", "dataset=sst2"], 6400),
    "full": (["model=minilm", "method=full", "dataset=sst2"], 6400),
    "labels": (["model=smollm2_135m", "method=lora", "dataset=sst2", "formulation=verbaliser",
                "recipe.batch_size=8"], 1600),
    "dialogsum": (["model=smollm2_135m", "method=lora", "dataset=dialogsum", "formulation=text",
                   "recipe.batch_size=4", "recipe.max_length=512"], 800),
}  # fmt: skip
#: Words of this program; all others are overrides.
_OPTIONS = {"settings": ",".join(SETTINGS), "rounds": "3", "skip": "", "n": "", "limit_s": "", "kept": "", "counts": "",
            "out": "", "commands": "true"}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Measure and print; `--one <contender> <word>...`: that one alone, as a line of JSON."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return
    if arguments[:1] == ["--one"]:
        print(json.dumps(CONTENDERS[arguments[1]](arguments[2:])))
        return
    words = dict(argument.partition("=")[::2] for argument in arguments)
    options = {name: words.pop(name, default) for name, default in _OPTIONS.items()}
    unknown = [name for name in options["settings"].split(",") if name not in SETTINGS]
    unknown += [name for name in filter(None, options["skip"].split(",")) if name not in CONTENDERS]
    if unknown:
        raise SystemExit(
            f"{', '.join(unknown)}: settings are {', '.join(SETTINGS)}; contenders {', '.join(CONTENDERS)}"
        )
    overrides = [f"{key}={value}" for key, value in words.items()]
    with tempfile.TemporaryDirectory() as folder:
        whole = _Measurements(options, overrides, Path(folder)).make()
        text = settings_table(whole.kept, SETTINGS)
        if whole.left:
            text += f"\n{whole.left} measurements are left (limit_s); the same line goes on.\n"
        elif options["commands"] == "true":
            text += commands_table(Path(folder))
    print(text)
    if options["out"]:
        Path(options["out"]).write_text(text)


class _Measurements:
    """Those that are there and those that are to be made.

    Attributes:
        kept: {"setting", "round", "contender", "n", "overrides" and its figures}, or "instructions" an example.
        left: how many weren't made for want of time.
    """

    def __init__(self, options: dict[str, str], overrides: list[str], folder: Path) -> None:
        self.options, self.overrides, self.folder = options, overrides, folder
        self.file = Path(options["kept"]) if options["kept"] else None
        lines = self.file.read_text().splitlines() if self.file and self.file.exists() else []
        self.kept: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.end = time.monotonic() + float(options["limit_s"] or "inf")
        self.left = 0

    def make(self) -> "_Measurements":
        """Make what is missing: all contenders of a round, one after the other, before the next round."""
        skipped = self.options["skip"].split(",")
        for setting in self.options["settings"].split(","):
            n = int(self.options["n"] or SETTINGS[setting][1])
            named = {"setting": setting, "n": n, "overrides": self.overrides}
            for number in range(int(self.options["rounds"])):
                for contender in (name for name in CONTENDERS if name not in skipped):
                    self._make({**named, "round": number, "contender": contender})
            for contender in (name for name in CONTENDERS if self.options["counts"] and name not in skipped):
                self._make({**named, "counts": self.options["counts"], "contender": contender})
        return self

    def _make(self, name: dict[str, Any]) -> None:
        if any(_is(line, name) for line in self.kept):
            return
        if time.monotonic() > self.end:
            self.left += 1
            return
        setting, contender = name["setting"], name["contender"]
        words = [*SETTINGS[setting][0], *self.overrides]
        if "counts" in name:
            once, twice = (
                _instructions(name["counts"], contender, words, k * name["n"], self._fresh()) for k in (1, 2)
            )
            each = None if once is None or twice is None else (twice - once) / name["n"]
            figures: dict[str, Any] = {"instructions": each}
        else:
            figures = _run([], contender, words, name["n"], self._fresh())[0]
        self.kept.append({**name, **figures})
        print(setting, contender, figures, flush=True)
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(self.kept[-1]) + "\n")

    def _fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def _is(line: dict[str, Any], name: dict[str, Any]) -> bool:
    return all(line.get(key) == value for key, value in name.items())


def _run(before: list[str], contender: str, words: list[str], n: int, folder: Path) -> tuple[dict[str, Any], str]:
    """A contender in a process of its own: its figures, and what it wrote to stderr.

    Args:
        before: a command that the process is started by.
    """
    own = [f"recipe.train_samples={n}", f"results_dir={folder}"]
    command = [*before, sys.executable, __file__, "--one", contender, *words, *own]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed ({' '.join([*words, *own])}):\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def _instructions(tool: str, contender: str, words: list[str], n: int, folder: Path) -> int | None:
    """Instructions of a whole process; None where the tool can't count here."""
    if shutil.which({"callgrind": "valgrind"}.get(tool, tool)) is None:
        return None
    if tool == "perf":
        counting = ["perf", "stat", "-x,", "-e", "instructions:u"]
        # Virtual machines often give none: that is asked of a process that takes no time.
        if _counted(subprocess.run([*counting, "true"], capture_output=True, text=True, check=False).stderr) is None:
            return None
        return _counted(_run(counting, contender, words, n, folder)[1])
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    errors = _run(valgrind, contender, words, n, folder)[1]
    return int(next(line for line in errors.splitlines() if "Collected :" in line).split()[-1])


def _counted(errors: str) -> int | None:
    """What perf wrote to stderr, as a number; None: the processor counts nothing here."""
    counts = [line.split(",")[0] for line in errors.splitlines() if "instructions" in line]
    return int(counts[0]) if counts and counts[0].isdecimal() else None


if __name__ == "__main__":
    main(sys.argv[1:])
