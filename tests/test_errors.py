"""What errors say, and which of them are for want of memory."""

import pytest

from peftbench import cli, errors
from peftbench.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "MemoryError"),
        (ValueError("\n a\nb"), "a"),
        (KeyError("k"), "'k'"),
    ],
)
def test_an_error_has_a_first_line(error: Exception, line: str) -> None:
    assert errors.first_line(error) == line


def _raised_for(cause: Exception) -> ConfigError:
    try:
        try:
            raise cause
        except Exception as error:
            raise ConfigError(f"file: can't be read ({errors.first_line(error)})") from None
    except ConfigError as error:
        return error


def test_want_of_memory_shows_behind_another_error() -> None:
    assert errors.out_of_memory(_raised_for(MemoryError()))
    assert errors.out_of_memory(_raised_for(OSError("Failed to launch worker thread: Resource unavailable")))
    lost = SystemError("<function _find_and_load at 0x7f1a> returned NULL without setting an exception")
    assert errors.out_of_memory(_raised_for(lost))
    assert not errors.out_of_memory(_raised_for(OSError("no such file")))


def test_what_could_not_be_read_for_want_of_memory_is_no_wrong_configuration(monkeypatch, capsys) -> None:

    monkeypatch.setattr("peftbench.sweep.launch.main", lambda _: (_ for _ in ()).throw(_raised_for(MemoryError())))
    assert cli.main(["model=tiny_bert"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("peftbench: memory ran out (file: can't be read (MemoryError))")
