"""`peftbench push RECORD REPO`: a finished run's weights as a repository of the Hugging Face hub."""

import os
import re
from collections.abc import Sequence
from typing import Any

from peftbench.config import arguments
from peftbench.errors import ConfigError, Failed
from peftbench.sweep import terminal
from peftbench.sweep.predict import ask
from peftbench.system import escape, hub

_USAGE = "push RECORD OWNER/NAME [private=true] [merged=false] [overwrite=false] [model_root=DIR]"
_DEFAULTS = {"model_root": "", "merged": "false", "private": "true", "overwrite": "false"}
#: A repository's name on the hub, with its owner's: a user or an organisation.
_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)


def main(words: Sequence[str]) -> int:
    """Send the weights, and say where they are."""
    named = [word for word in words if word.partition("=")[0] not in _DEFAULTS]
    if len(named) != 2:
        raise ConfigError(f"push: takes a record and a name on the hub: {_USAGE}")
    settings = [word for word in words if word not in named]
    chosen = arguments.options("push", settings, **_DEFAULTS) if settings else _DEFAULTS
    switches = {name: arguments.switch(chosen, name) for name in ("merged", "private", "overwrite")}
    made = pushed(named[0], named[1], model_root=chosen["model_root"] or None, **switches)
    visible = "private" if made["private"] else "public"
    line = f"{made['address']} ({visible}): {made['kind']}: {', '.join(made['files'])}"
    terminal.console.print(escape.line(line), markup=False, soft_wrap=True)
    return 0


def pushed(
    record: str, repository: str, *, private: bool, merged: bool, overwrite: bool, model_root: str | None
) -> dict[str, Any]:
    """Send a finished run's weights; returns `address`, `commit`, `files`, `kind` (adapter or model), `private`.

    Args:
        record: the path of the run's record.
        repository: its name on the hub, OWNER/NAME.
        private: whether others can't see it.
        merged: a whole model with the method folded in; else an adapter.
        overwrite: whether what the repository holds may be replaced.

    Raises:
        ConfigError: the run can't be exported so, or the hub doesn't let this be done.
        Failed: the hub doesn't answer.
    """
    if not _NAME.fullmatch(repository):
        raise ConfigError(f"push: {repository}: allowed is a name on the hub, OWNER/NAME")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in hub.YES:
        raise ConfigError("push: HF_HUB_OFFLINE says that the hub isn't to be asked; unset it")
    if not hub.reachable():
        raise Failed("push: the hub doesn't answer; the same line tries again")
    how = {"model_root": model_root, "merged": merged, "private": private, "overwrite": overwrite}
    result = ask("send", record, repository, how, module="push")
    if "failed" in result:
        raise Failed(result["failed"])
    return result
