"""Joules by RAPL's counters, stood in for by files."""

from pathlib import Path

from peftbench.run.training.energy import Energy, EnergyCounters


def zone(folder: Path, name: str, value: int, most: int = 1_000_000) -> Path:
    (folder / name).mkdir()
    (folder / name / "energy_uj").write_text(f"{value}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / name / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 100), zone(tmp_path, "intel-rapl:1", 500_000)
    core = zone(tmp_path, "intel-rapl:0:0", 0)
    counters = EnergyCounters(tmp_path)
    first.write_text("200100")
    second.write_text("600000")
    core.write_text("900000")
    assert counters.read() == 0.3


def test_a_counter_that_begins_anew(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", 900_000)
    counters = EnergyCounters(tmp_path)
    counter.write_text("100000")
    assert counters.read() == 0.2
    counter.write_text("150000")
    assert counters.read() == 0.25


def test_null_where_nothing_counts(tmp_path: Path) -> None:
    assert EnergyCounters(tmp_path / "none").read() is None
    counter = zone(tmp_path, "intel-rapl:0", 1)
    counters = EnergyCounters(tmp_path)
    counter.write_text("only root may read this")
    assert counters.read() is None


def test_evaluation_is_left_out(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", 0)
    energy, nobody = Energy(tmp_path), None  # type: Energy, Any
    energy.on_train_start(nobody, nobody)
    counter.write_text("100000")
    energy.on_validation_start(nobody, nobody)
    counter.write_text("400000")
    energy.on_validation_end(nobody, nobody)
    counter.write_text("600000")
    assert energy.joules() is None
    energy.on_train_end(nobody, nobody)
    assert round(energy.joules() or 0, 9) == 0.3
