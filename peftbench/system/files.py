"""Writes files that are whole or not there, and stay there when the power goes; reads and locks plain ones."""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from peftbench import errors

_log = logging.getLogger(__name__)

#: Free bytes below which a disk counts as full.
_FULL = 1 << 16


def temporary(target: Path) -> Path:
    """Make an empty file beside `target`, under a random name, at which nobody can have laid a link.

    Files that killed processes left are recognised by it: it is `.<target's name>.<8 hex digits>.tmp`."""
    file = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    return file


def open_lock(file: Path) -> TextIO:
    """Open a file that is to be locked; makes it if it is missing. A link in its place is deleted, never followed: the
    file that the link leads to isn't ours.

    Raises:
        OSError: the file can't be made, or is no plain file.
    """
    return os.fdopen(open_own(file, os.O_RDWR), "r+")


def open_own(file: Path, flags: int) -> int:
    """The descriptor of a plain file in a folder of ours; makes the file if it is missing, and treats links and errors
    as `open_lock` does."""
    for _ in range(3):
        with contextlib.suppress(FileNotFoundError):
            if file.is_symlink():
                file.unlink()
        try:
            descriptor = os.open(file, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:  # It was laid meanwhile.
                continue
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        break
    raise OSError(errno.EINVAL, "not a plain file", str(file))


def write(target: Path, fill: Callable[[Path], object], *, durable: bool = True) -> None:
    """Make a file under a temporary name beside `target`, leave it on the disk (fsync), then give it its name.

    Args:
        fill: writes the file that it is given.
        durable: False doesn't wait for the disk: for files that mean nothing once the machine has gone down.

    Raises:
        OSError: the disk doesn't take it, whatever `fill`'s library says then.
    """
    make_folder(target.parent)
    unnamed = temporary(target)
    try:
        with _disk_errors(target.parent):
            fill(unnamed)
        if durable:
            sync(unnamed)
        os.replace(unnamed, target)
    finally:
        unnamed.unlink(missing_ok=True)
    if durable:
        sync(target.parent)


def write_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Writes a folder of files, as `write` does a file; replaces the folder that is there. `fill` is given an empty
    folder."""
    make_folder(target.parent)
    unnamed = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    unnamed.mkdir()
    try:
        with _disk_errors(target.parent):
            fill(unnamed)
        for path in [*unnamed.rglob("*"), unnamed]:
            sync(path)
        if target.is_symlink():
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(unnamed, target)
    finally:
        shutil.rmtree(unnamed, ignore_errors=True)
    sync(target.parent)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn the errors that torch and safetensors have of their own for a full disk into OSError (ENOSPC)."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # safetensors (Rust) ends its message in "(os error 28)"; torch's doesn't name the reason.
        if "os error" in str(error) or shutil.disk_usage(folder).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


@contextlib.contextmanager
def spared(what: str, lost: list[str]) -> Iterator[None]:
    """Logs and notes a failure to write (a full disk, a library's error) while entered, and the run goes on: its
    numbers are worth more than the file.

    Args:
        what: names the file that is being written.
        lost: takes the note that the file wasn't kept.
    """
    try:
        yield
    except errors.Interrupted:
        raise
    except Exception as error:
        _log.warning("%s can't be written (%s)", what, error, exc_info=not isinstance(error, OSError))
        lost.append(f"{what} weren't kept: {getattr(error, 'strerror', None) or type(error).__name__}")


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, and leave the name of each on the disk: in the folder above, which is synced."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


def is_named(descriptor: int, path: Path) -> bool:
    """True if an open file is the file that has this name now, links followed: another process may have replaced it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def sync(path: Path) -> None:
    """Leave a file's contents, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_plain(file: Path, *, most: int) -> bytes:
    """The bytes of a plain file, links followed. Never those of a pipe, a device or a folder: reading one of these may
    wait for ever or have no end.

    Args:
        most: bytes that the file may have.

    Raises:
        OSError: it is no plain file, is larger, or can't be read.
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
    """Own a run's folder, as the one process that works in it, by a lock of the kernel's on its file `lock`.

    A parent that is killed takes its child along, but perhaps only after the next parent has started another: so the
    new child waits for the old one.

    Raises:
        RuntimeError: another process still owns the folder after a minute.
    """
    try:
        make_folder(folder)
        stream = open_lock(folder / "lock")
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
