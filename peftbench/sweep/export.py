"""`peftbench export RECORD DIR`: a finished run's weights as a folder that plain transformers and peft load."""

from collections.abc import Sequence
from pathlib import Path

from peftbench.config import arguments
from peftbench.errors import ConfigError
from peftbench.sweep import terminal
from peftbench.sweep.predict import ask
from peftbench.system import escape

_USAGE = "export RECORD DIR [merged=false] [model_root=DIR]"


def main(words: Sequence[str]) -> int:
    """Write the folder, and say what it holds."""
    paths = [word for word in words if "=" not in word or Path(word).exists()]
    if len(paths) != 2:
        raise ConfigError(f"export: takes a record and a folder to make: {_USAGE}")
    settings = [word for word in words if word not in paths]
    defaults = {"model_root": "", "merged": "false"}
    chosen = arguments.options("export", settings, **defaults) if settings else defaults
    how = {"model_root": chosen["model_root"] or None, "merged": arguments.switch(chosen, "merged")}
    written = ask("write", paths[0], str(Path(paths[1]).absolute()), how, module="export")
    line = f"{paths[1]}: {written['kind']}: {', '.join(written['files'])}"
    terminal.console.print(escape.line(line), markup=False, soft_wrap=True)
    return 0
