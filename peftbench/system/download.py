"""Files of a repository on the Hugging Face hub, at one commit: from its local cache, and only where they aren't there
by asking.

The cache is huggingface_hub's own: `refs/<name>` says which commit a branch stood for when it was first asked for,
`trees/<commit>.json` which files a commit has and how long they are, `snapshots/<commit>/` holds them.
"""

import contextlib
import fnmatch
import glob
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from peftbench.system import hub
from peftbench.system.fetching import HubError, as_hub_error, patience, progress

#: From the paths in a repository, those to get. Raises HubError where there are none to get.
Select = Callable[[Sequence[str]], list[str]]

_BRANCH = "main"


@dataclass(frozen=True)
class Snapshot:
    """Whole files of a repository at a commit: `files` are paths below `folder`."""

    folder: Path
    commit: str
    files: list[str]


def fetch(repository: str, select: Select, *, kind: str, revision: str | None) -> Snapshot:
    """Some files of a repository. What the cache holds whole is taken from it without a request.

    Args:
        select: which of the repository's files.
        kind: "dataset" or "model".
        revision: a commit, or a branch or tag, which is resolved to its commit once and kept by it; None: main.

    Raises:
        HubError: it isn't there, can't be reached, refuses, or sent half a file.
    """
    # The other way is faster, but has no timeouts to set and is another way to fail; whoever sets it to 0 has it.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    with _quiet():
        return _fetch(repository, select, kind=kind, name=revision or _BRANCH)


def _fetch(repository: str, select: Select, *, kind: str, name: str) -> Snapshot:
    commit = name if hub.is_commit(name) else _remembered(repository, kind, name)
    snapshot = None if commit is None else _cached(repository, kind, commit, select)
    if snapshot is not None:
        return snapshot
    if not hub.reachable():
        snapshot = None if commit is None else _told_by_names(repository, kind, commit, select)
        if snapshot is None:
            raise HubError("the local cache doesn't hold it whole and the hub can't be reached")
        return snapshot
    try:
        _download(repository, kind, commit or name, select)
    except HubError as error:
        if error.about != "revision" or commit in (None, name):
            raise
        raise HubError(
            f"{name} was {commit} when it was first asked for, which the hub has no more; delete "
            f"{_folder(repository, kind) / 'refs' / name} to take what it is now",
            about="revision",
        ) from None
    commit = commit or _remembered(repository, kind, name)
    snapshot = None if commit is None else _cached(repository, kind, commit, select)
    if snapshot is None:
        raise HubError("what came isn't what the hub lists")
    return snapshot


def matching(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The paths that fit a pattern, folder by folder: `*` stands for no slash. Sorted."""
    return sorted(path for path in paths if any(_fits(path, pattern) for pattern in patterns))


def _fits(path: str, pattern: str) -> bool:
    names, parts = path.split("/"), pattern.split("/")
    return len(names) == len(parts) and all(map(fnmatch.fnmatchcase, names, parts))


def home() -> Path:
    """The folder of the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _folder(repository: str, kind: str) -> Path:
    return home() / f"{kind}s--{repository.replace('/', '--')}"


def _remembered(repository: str, kind: str, name: str) -> str | None:
    """The commit that a branch or tag stood for when it was first asked for."""
    try:
        commit = (_folder(repository, kind) / "refs" / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if hub.is_commit(commit) else None


def _sizes(repository: str, kind: str, commit: str) -> dict[str, int] | None:
    """Bytes by path of a commit's files, as the hub listed them; None: it wasn't asked."""
    import huggingface_hub
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = huggingface_hub.get_cached_repo_tree(repository, repo_type=kind, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    except ValueError as error:
        raise as_hub_error(error) from None
    return {file.path: file.size for file in tree}


def _cached(repository: str, kind: str, commit: str, select: Select) -> Snapshot | None:
    """The files, if the cache holds them all as long as the hub says."""
    sizes = _sizes(repository, kind, commit)
    if sizes is None:
        return None
    folder, files = _folder(repository, kind) / "snapshots" / commit, select(list(sizes))
    return None if _missing(folder, files, sizes) else Snapshot(folder, commit, files)


def _missing(folder: Path, files: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """Files that aren't there as long as they should be. One that is shorter or longer is deleted, so that it is got
    anew."""
    missing = []
    for file in files:
        path = folder / file
        try:
            if path.stat().st_size == sizes[file]:
                continue
            with contextlib.suppress(OSError):
                path.resolve().unlink()
                path.unlink(missing_ok=True)
        except OSError:
            pass
        missing.append(file)
    return missing


def _told_by_names(repository: str, kind: str, commit: str, select: Select) -> Snapshot | None:
    """The files of a snapshot that another tool made, if their names say that none is missing."""
    if _sizes(repository, kind, commit) is not None:
        return None  # The list says that one is.
    folder = _folder(repository, kind) / "snapshots" / commit
    try:
        files = select([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
    except HubError:
        return None
    parts = [match for file in files if (match := re.match(r"(.*)-\d+-of-(\d+)\.", file))]
    numbered = [match.group(1, 2) for match in parts]
    if any(numbered.count(one) != int(one[1]) for one in numbered):
        return None
    if any(re.fullmatch(r"\d+\.\w+", file.split("/")[-1]) for file in files):
        return None  # 0000.parquet: nothing says how many there are.
    return Snapshot(folder, commit, files)


def _download(repository: str, kind: str, revision: str, select: Select) -> None:
    """Bring the files into the cache: first the list of all of them, then those that are missing."""
    with patience() as patient:

        def work() -> None:
            folder = get(revision, [], 0)
            sizes = _sizes(repository, kind, folder.name)
            if sizes is None:
                raise HubError(
                    f"the hub's cache {home()} can't be written to, or is full; HF_HOME=DIR puts it elsewhere"
                )
            missing = _missing(folder, select(list(sizes)), sizes)
            get(folder.name, missing, sum(sizes[file] for file in missing))

        def get(at: str, files: Sequence[str], total: int) -> Path:
            from huggingface_hub import snapshot_download

            with progress(f"downloading {repository}", total, patient.moved) as bar:
                patterns = [glob.escape(file) for file in files]
                settings = {"allow_patterns": patterns, "max_workers": 4, "tqdm_class": bar}
                return Path(snapshot_download(repository, repo_type=kind, revision=at, **settings))

        try:
            # In a thread: an interrupted snapshot_download goes on until its files are whole.
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(work)
                try:
                    done.result()
                except BaseException:
                    patient.stop()
                    raise
        except Exception as error:  # The network, the disk and the hub each fail in classes of their own.
            raise as_hub_error(error) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library's own lines: what failed is said in one of ours."""
    from huggingface_hub.utils import logging as library

    before = library.get_verbosity()
    library.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(before)
