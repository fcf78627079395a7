"""Where multiprocessing's sockets lie: paths too long for a socket, and folders that can't be used."""

import subprocess
import sys
from pathlib import Path

import pytest

from peftbench import system
from peftbench.errors import ConfigError

_LISTEN = """
from multiprocessing.connection import Listener
from peftbench import system
system.make_socket_folder()
print(Listener(family="AF_UNIX").address)
"""


@pytest.mark.parametrize("kind", ["long", "absent", "file"])
def test_a_socket_has_a_folder_whatever_tmpdir_is(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 110 if kind == "long" else kind)
    if kind == "long":
        folder.mkdir()
    elif kind == "file":
        folder.touch()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = subprocess.run([sys.executable, "-c", _LISTEN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert len(address) <= 103
    assert not Path(address).parent.exists(), "its folder is left behind"


def test_without_any_short_folder_it_is_said_what_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 110)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(system, "_SHORT_FOLDERS", (str(tmp_path / "absent"),))
    monkeypatch.setattr(system.util, "get_temp_dir", lambda: pytest.fail("asked for a folder that is too long"))
    monkeypatch.setattr(system, "_SOCKET_PATH", 40)
    with pytest.raises(ConfigError, match=r"^TMPDIR=.*too long for a socket's.*allowed are at most 8"):
        system.make_socket_folder()
