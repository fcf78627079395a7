"""Files that are whole or not there, and stay there when the power goes. Free of torch."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

#: Free bytes below which a disk counts as full.
_FULL = 1 << 16


def write(target: Path, fill: Callable[[Path], object]) -> None:
    """Make a file under a temporary name beside `target`, leave it on the disk, then give it its name.

    Args:
        fill: writes the file that it is given.

    Raises:
        OSError: the disk doesn't take it, whatever `fill`'s library says then.
    """
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _disk_errors(target.parent):
            fill(temporary)
        sync(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync(target.parent)


def write_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """The same for a folder of files; replaces the one that is there."""
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with _disk_errors(target.parent):
            fill(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(target.parent)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """torch and safetensors have errors of their own for a disk that is full; torch's doesn't even say so."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if "os error" in str(error) or shutil.disk_usage(folder).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


@contextlib.contextmanager
def spared(what: str, lost: list[str]) -> Iterator[None]:
    """Within this, a disk that takes nothing costs a run what is being written, and not its numbers.

    Args:
        what: is being written; a note that it wasn't kept is added to `lost`.
    """
    try:
        yield
    except OSError as error:
        _log.warning("%s can't be written (%s)", what, error)
        lost.append(f"{what} weren't kept: {error.strerror or type(error).__name__}")


def make_folder(folder: Path) -> None:
    """A folder with its parents: the name of each is only safe once the one above it is on the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


def sync(path: Path) -> None:
    """Leave a file's contents, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_plain(file: Path, *, most: int) -> bytes:
    """The bytes of a plain file, or of one that a link leads to: never of a pipe, a device or a folder, on which
    reading waits or has no end.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: it is none, is larger, or can't be read.
    """
    try:
        _check_plain(os.stat(file), most)  # To open some devices does something.
        # By now it may be another, and where there is nobody at a pipe's other end, opening would wait.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:  # A zero byte in the name, or what no encoding has.
        raise OSError(errno.EINVAL, str(error)) from None
    with open(descriptor, "rb", buffering=0) as stream:
        status = os.fstat(descriptor)
        _check_plain(status, most)
        return stream.read(status.st_size)  # And no more, where another goes on writing.


def _check_plain(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no plain file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, at most {most:,} are read")


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the one process that works in a run's folder. A parent that is killed takes its child along, but not before
    the next parent may have started another.

    Raises:
        RuntimeError: after a minute there still is another.
    """
    try:
        make_folder(folder)
        stream = (folder / "lock").open("w")
    except OSError as error:
        _log.warning("%s can't be written (%s): the run leaves no state behind", folder, error)
        yield
        return
    with stream:
        for _ in range(600):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # A file system without locks.
                break
        else:
            raise RuntimeError(f"another process still works in {folder}")
        yield
