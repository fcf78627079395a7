"""A finished run's weights as a repository of the Hugging Face hub: what `peftbench push` starts by the name of `send`.

All goes in one commit, so that nobody gets half of it.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.errors import ConfigError
from peftbench.run import export
from peftbench.run.reloading import Reloaded, reload
from peftbench.system.fetching import as_hub_error
from peftbench.system.process_group import Emit

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: What the hub itself puts into a repository.
_OWN = ".gitattributes"
#: Answers of the hub that the user can mend: no such token, or it may not; what was sent isn't taken.
_REFUSED = range(400, 500)


def send(path: str, repository: str, how: dict[str, Any], emit: Emit) -> None:
    """Emits {"result": {"address", "commit", "files", "kind", "private"}}, or {"problem": text} for what is the user's
    to mend, or {"failed": text} where the hub doesn't answer as it should.

    Args:
        path: of the record.
        repository: its name on the hub, with its owner's.
        how: `private`, `overwrite`, and `merged` and `model_root` as `reload`.
    """
    try:
        emit({"result": _send(path, repository, how)})
    except ConfigError as error:
        emit({"result": {"problem": str(error)}})
    except Exception as error:  # Of huggingface_hub, which raises errors of its HTTP library too.
        kind = "problem" if _status(error) in _REFUSED or type(error) is ValueError else "failed"
        emit({"result": {kind: f"push: {repository}: {_words(error)}"}})


def _status(error: BaseException | None) -> int | None:
    """The status that the hub answered with, where an error or one that it was raised for is for that."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def _words(error: Exception) -> str:
    """An error of the hub in words of our own, or in the hub's where it says what is wrong with what was sent."""
    return " ".join(str(error).split()) if type(error) is ValueError else str(as_hub_error(error))


def _send(path: str, repository: str, how: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import HfApi, get_token

    if not (token := get_token()):
        raise ConfigError("push: no token: set HF_TOKEN to one that may write, or log in by `hf auth login`")
    api = HfApi(token=token)
    present = _there(api, repository, how)  # Before a model is loaded, which takes long.
    reloaded = reload(path, model_root=how["model_root"], merged=how["merged"])
    export.check(reloaded, merged=how["merged"], command="push")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export.fill(reloaded, folder)
        if present is None:
            api.create_repo(repository, private=how["private"])
        commit = _commit(api, repository, folder, present or [], _subject(reloaded))
        names = sorted(file.name for file in folder.iterdir())
    kind = "adapter" if "adapter_config.json" in names else "model"
    address = f"{api.endpoint}/{repository}"
    return {"address": address, "commit": commit, "files": names, "kind": kind, "private": how["private"]}


def _there(api: "HfApi", repository: str, how: dict[str, Any]) -> list[str] | None:
    """The files of the repository; None: there is none yet.

    Raises:
        ConfigError: it isn't as private as asked for, or holds what may not be replaced.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = api.model_info(repository)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:  # A private one of somebody else's looks so, too: `create_repo` is refused then.
        return None
    if bool(info.private) != how["private"]:
        is_now = "private" if info.private else "public"
        asked = str(how["private"]).lower()
        raise ConfigError(f"push: {repository} is there and {is_now}: private={asked} doesn't change that")
    names = [file.rfilename for file in info.siblings or [] if file.rfilename != _OWN]
    if names and not how["overwrite"]:
        raise ConfigError(
            f"push: {repository} holds {len(names)} files; overwrite=true replaces them by a commit, or name another"
        )
    return names


def _commit(api: "HfApi", repository: str, folder: Path, present: list[str], subject: str) -> str:
    """Make a folder all that a repository holds; returns the commit's id."""
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()),
        *(CommitOperationDelete(path_in_repo=name) for name in present if name not in files),
    ]
    return str(api.create_commit(repository, operations, commit_message=subject).oid)


def _subject(reloaded: Reloaded) -> str:
    method, model, data = (reloaded.record.config[group]["name"] for group in ("method", "model", "dataset"))
    return f"{method} on {model}, trained on {data} (peftbench, run {reloaded.record.key})"
