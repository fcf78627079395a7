"""Names the folders of a results folder, and checks that they can be written."""

import contextlib
import os
import secrets
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path

from peftbench.errors import ConfigError

#: Bytes that must fit on the disk for a run to start.
_PROBE = 1 << 16


class Folder(StrEnum):
    """The folders that may lie under a results folder; under its `trials`, which is one too, again."""

    RECORDS = "records"
    PREDICTIONS = "predictions"
    CURVES = "curves"
    ADAPTERS = "adapters"
    UNFINISHED = "unfinished"
    CLAIMS = "claims"
    CACHE = "cache"
    LIVE = "live"
    LOGS = "logs"
    SENT = "sent"
    TRIALS = "trials"
    STUDIES = "studies"
    FINDINGS = "findings"
    ESTIMATES = "estimates"


#: Those that have a folder for each data set, model and method.
_BY_CELL = (Folder.RECORDS, Folder.PREDICTIONS, Folder.CURVES, Folder.ADAPTERS)


def check_writable(root: Path, cells: Collection[Path]) -> None:
    """Raises ConfigError if something can't be written under a results folder.

    Args:
        cells: data set, model and method of the runs to come, as the paths of their folders.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"results_dir={root}: can't be written ({error.strerror})") from None
    for folder in sorted({_nearest(folder, root) for folder in _folders(root, cells)}):
        probe = folder / f".writable-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            probe.write_bytes(bytes(_PROBE))  # On a full disk a name may be had that nothing can be written under.
            probe.unlink(missing_ok=True)
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink()
            where = "" if folder == root else f"{folder.relative_to(root)} must be a folder: "
            raise ConfigError(f"results_dir={root}: {where}can't be written ({error.strerror})") from None


def _folders(root: Path, cells: Collection[Path]) -> Iterator[Path]:
    """Every folder that runs may write in: the results folder, its folders, and in them those of each cell."""
    yield root
    for results in (root, root / Folder.TRIALS):
        yield from (results / name for name in Folder)
        yield from (results / name / cell for name in _BY_CELL for cell in cells)


def _nearest(folder: Path, root: Path) -> Path:
    """The path itself or the nearest above it, up to `root`, that exists, be it a folder or not."""
    return next(path for path in (folder, *folder.parents) if path == root or os.path.lexists(path))
