"""The machine, without torch."""

import os
import platform
import tempfile
from multiprocessing import util
from pathlib import Path

from peftbench.errors import ConfigError

#: Bytes that a socket's path may have (Linux 108, macOS 104, the last is 0), and of those what multiprocessing adds to
#: the folder: /pymp-12345678/listener-12345678.
_SOCKET_PATH, _SOCKET_NAME = 103, 32
#: Where temporary files may lie on any machine of ours, the likeliest first.
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def processor() -> str | None:
    """The processor's name, as records have it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def make_socket_folder() -> None:
    """Make the folder of multiprocessing's sockets, for this process and those that it starts: in the folder for
    temporary files or, where its path is too long for a socket, in another.

    Raises:
        ConfigError: there is none.
    """
    given = os.environ.get("TMPDIR")
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:
        raise ConfigError(f"TMPDIR={given or ''}: no folder for temporary files can be written, nor can /tmp") from None
    before, most = tempfile.tempdir, _SOCKET_PATH - _SOCKET_NAME
    for folder in (usual, *_SHORT_FOLDERS):
        if len(os.fsencode(folder)) > most:
            continue
        tempfile.tempdir = folder
        try:
            util.get_temp_dir()  # Makes it when it's first asked, remembers it, deletes it in the end.
            return
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
    raise ConfigError(
        f"TMPDIR={given or usual}: its path has {len(os.fsencode(usual))} bytes, which is too long for a socket's, and "
        f"none of {', '.join(_SHORT_FOLDERS)} can be written: allowed are at most {most}"
    )
