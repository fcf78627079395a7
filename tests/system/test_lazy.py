"""A package that is put off runs its code when something of it is used, once."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peftbench.system import lazy


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`later`: its code leaves a mark behind each time that it runs."""
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "__init__.py").write_text("import later.mark\nfrom later.part import Part\nWhole = 'whole'\n")
    (folder / "mark.py").write_text("RUNS = 1\n")
    (folder / "part.py").write_text("class Part: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "later"]:
        del sys.modules[name]


def test_what_has_a_home_is_had_without_the_rest(package: Path) -> None:
    lazy.package("later", {"Part": "later.part", "Whole": "later.nowhere"}, note="given")
    later = importlib.import_module("later")
    assert later.note == "given"
    assert later.Part is importlib.import_module("later.part").Part
    assert "later.mark" not in sys.modules
    with pytest.raises(AttributeError):
        _ = later.__nothing__
    assert "later.mark" not in sys.modules
    assert later.Whole == "whole", "a home that isn't there: the package's code runs"
    assert "later.mark" in sys.modules
    with pytest.raises(AttributeError):
        _ = later.nothing


def test_what_is_imported_or_absent_is_left_alone(package: Path) -> None:
    later = importlib.import_module("later")
    lazy.package("later", {})
    assert importlib.import_module("later") is later
    lazy.package("later_still", {})
    assert "later_still" not in sys.modules
