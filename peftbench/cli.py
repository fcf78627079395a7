"""The command line: dispatch before any heavy import, exit codes, errors in one line.

Exit status: 0 all runs completed or were already there; 1 at least one failed; 2 the configuration is wrong, and
nothing was trained; 130 Ctrl-C. `reproduce`: 0 reproduced or compatible, 1 lower or higher, 3 no verdict.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from peftbench import __version__
from peftbench.config.arguments import FOLDERS
from peftbench.errors import ConfigError, Failed, exact, nearest, out_of_memory
from peftbench.system import escape, machine, redact

#: Command -> module with `main(arguments) -> exit status`. Without one, the arguments describe runs.
COMMANDS = {
    "report": "peftbench.results.report.command",
    "status": "peftbench.sweep.status",
    "list": "peftbench.config.listing",
    "check": "peftbench.sweep.check",
    "convert": "peftbench.models.convert",
    "clean": "peftbench.sweep.clean",
    "sync": "peftbench.sweep.sync",
    "predict": "peftbench.sweep.predict",
    "export": "peftbench.sweep.export",
    "push": "peftbench.sweep.push",
    "estimate": "peftbench.sweep.estimate",
    "advise": "peftbench.sweep.advise",
    "reproduce": "peftbench.sweep.reproduce",
    "latency": "peftbench.sweep.latency",
}

_COMMANDS = [*COMMANDS, "completion", "help"]
_HELP = ("-h", "--help")
_LIMIT = "ulimit -v shows whether there is a limit"

_USAGE = """\
peftbench: which fine-tuning method for this model, this task and this hardware, and how sure are we?

  python -m peftbench [group=choice ...] [key=value ...] [-m]   compose, train, measure, record
  python -m peftbench method=lora,prefix dataset=sst2 -m        several runs
  python -m peftbench sweep=glue_quick                          a prepared sweep
  python -m peftbench report [FOLDER | results_dir=results]     leaderboard; method=lora* format=latex against=DIR
  python -m peftbench status [FOLDER | results_dir=results]     what runs there, how far it is
  python -m peftbench list [{lists}]
  python -m peftbench estimate [group=choice ...] [memory=8GB]  memory by part and time, without weights or data
  python -m peftbench advise dataset=sst2 [memory=8GB]          which method, by estimates and records; what is open
  python -m peftbench reproduce [experiment=PAPER/ROW] [...]    published rows: listed, run and judged; counts
  python -m peftbench list GROUP NAME                           all that a file says, and where it is used
  python -m peftbench check [FILE ...]                          every file, or these, composes and is valid
  python -m peftbench clean [results_dir=results]               deletes old logs and what ended runs left; dry_run=true
  python -m peftbench sync logger=wandb [results_dir=results]   sends recorded runs to a logger, later
  python -m peftbench predict RECORD FILE                       its answers to your own texts, as CSV
  python -m peftbench export RECORD DIR [merged=true]           its weights as a folder of transformers and peft
  python -m peftbench push RECORD OWNER/NAME                    the same as a repository of the hub, private
  python -m peftbench latency RECORD [RECORD ...]               adapters of one base, served and switched
  python -m peftbench completion bash|zsh|fish                  a shell's script to complete commands, keys, choices
  python -m peftbench help [COMMAND]                            this, or a command's line of it
  python -m peftbench convert model=smollm2_135m model_root=DIR weights that came as a GGUF file in a Python package

Groups (python -m peftbench list shows what is in them): {groups}
Keys: seed  results_dir  data_root  model_root  formulation  overwrite  save_adapters  recipe.*  hardware.*  method.*
      zip  exclude  tune  dry_run
Options: -m several runs   --config-dir DIR your own conf/ beside ours   --cfg job show the composed configuration
         --version   --hydra-help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        redact.install()
        machine.relax_warnings()
        machine.forgive_encoding()
        return _dispatch(arguments)
    except (ConfigError, Failed) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        short = isinstance(error, ConfigError) and out_of_memory(error)  # What couldn't be read isn't wrong then.
        what = f"memory ran out ({error}); {_LIMIT}" if short else str(error)
        print(f"peftbench: {escape.line(redact.redact(what))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) and not short else 1
    except BrokenPipeError:  # `peftbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not out_of_memory(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        last = (str(error).strip().splitlines() or ["MemoryError"])[-1]
        print(f"peftbench: memory ran out ({last}); {_LIMIT}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("peftbench: stopped; the same line goes on from here", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["completion"]:
        from peftbench.config import completion

        return completion.main(arguments[1:], _usage(), _COMMANDS)
    words = [a for a in _without_folders(arguments) if a not in _HELP]
    command = exact(words[0], _COMMANDS) if words else None
    if len(words) < len(_without_folders(arguments)) or command == "help":
        print(_help(words[1:] if command == "help" else words), end="")
        return 0
    if command in COMMANDS:
        arguments.remove(words[0])
        return int(importlib.import_module(COMMANDS[command]).main(arguments))
    if "--version" in arguments:
        print(f"peftbench {__version__}")
        return 0
    if words and words[0] == arguments[0] and words[0][0] not in "-~" and "=" not in words[0]:
        raise ConfigError(_no_command(words[0]))
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    """Run what a command line describes. A fork server imports torch beside all that follows, the first import too."""
    from peftbench.system import process

    try:
        if {"-m", "--multirun"}.issuperset(word for word in arguments if word.startswith("-")):
            process.warm_up_early()
        from peftbench.sweep import launch

        return launch.main(arguments)
    finally:
        process.abandon()


def _without_folders(arguments: list[str]) -> list[str]:
    """The arguments but `--config-dir DIR`, whether the folder is there or not."""
    return [
        word
        for before, word in zip(["", *arguments], arguments, strict=False)
        if not word.startswith(tuple(f"{option}=" for option in FOLDERS)) and not {before, word} & set(FOLDERS)
    ]


def _no_command(word: str) -> str:
    from peftbench.config import paths

    groups = [group for group in paths.groups() if exact(word, paths.choices(group)) in paths.choices(group)]
    meant = [f"{group}={word}" for group in groups]
    others = f"meant may be {', '.join(meant)}" if meant else f"{nearest(word, sorted(_COMMANDS))}, or key=value to run"
    return f"{word}: no such command; {others}"


def _help(words: list[str]) -> str:
    """All that there is, or a command's own lines of it."""
    command = exact(words[0], _COMMANDS) if words else None
    if command not in (*COMMANDS, "completion"):
        if command is not None and command != "help" and "=" not in command:
            raise ConfigError(_no_command(command))
        return _usage()
    lines = [line for line in _usage().splitlines() if line.startswith(f"  python -m peftbench {command}")]
    return "\n".join([*lines, ""])


def _usage() -> str:
    from peftbench.config import paths

    return _USAGE.format(lists="|".join(paths.listable()), groups="  ".join(paths.groups()))
