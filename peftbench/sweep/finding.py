"""`peftbench reproduce finding=<name>`: the runs of sweeps/finding_<name>.yaml, and what they say of its statement."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config import loading, paths
from peftbench.config.identity import identity
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, nearest
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.report.flattening import flat
from peftbench.results.report.load import load
from peftbench.results.report.page import sayings, standalone
from peftbench.results.reproduction import findings, tested
from peftbench.sweep import launch
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import escape, files, redact

_PREFIX = "finding_"


def names(folders: Sequence[Path] = ()) -> list[str]:
    """The findings that there are sweeps for."""
    sweeps = paths.choices("sweep", folders)
    return [name.removeprefix(_PREFIX) for name in sweeps if name.startswith(_PREFIX)]


def statement(name: str, folders: Sequence[Path] = ()) -> str:
    """The statement of a finding."""
    return _read(name, folders)[0].statement


def _read(name: str, folders: Sequence[Path]) -> tuple[findings.Finding, dict[str, Any]]:
    """A finding, and the content of its sweep's file."""
    content = loading.read_yaml(paths.choice_files("sweep", folders)[f"{_PREFIX}{name}"])
    return findings.read(name, content), content


def main(arguments: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """0: it holds here; 1: it doesn't, or a run failed; 3: nothing can be told."""
    name = next(word.partition("=")[2] for word in arguments if word.startswith("finding="))
    if name not in names(folders):
        raise ConfigError(f"finding={name}: no such finding; {nearest(name, names(folders))}")
    words = [
        word for word in arguments if not word.startswith("finding=") and word not in ("train=true", "train=false")
    ]
    sweep = [f"sweep={_PREFIX}{name}", *words]
    finding, content = _read(name, folders)
    cells = plan_cells(sweep, multirun=True, config_dirs=folders).cells
    status = 0
    if "train=false" not in arguments:
        status = launch.main([*(f"--config-dir={folder}" for folder in folders), *sweep])
        if cells[0].dry_run:
            return status
    records = _recorded(cells)
    result = findings.judge(finding, records, tested.lacking(len(records), len(cells)))
    print(redact.redact(findings.text(result)))
    if records:
        tested.keep(Path(cells[0].results_dir), name, content["finding"], records, len(cells))
        _draw(Path(cells[0].results_dir), name, result)
    return status or findings.STATUSES[result.answer]


def _draw(root: Path, name: str, result: findings.Result) -> None:
    """Write a finding's picture beside what it rests on, and say where; one of an earlier answer goes."""
    chart, target = sayings.chart(name, result), tested.file(root, name, "svg")
    if chart is None:
        target.unlink(missing_ok=True)
        return
    text = redact.redact(standalone.pictures([chart]))
    files.write(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(f"  picture  {escape.line(target)}")


def _recorded(cells: Sequence[RunConfig]) -> list[RunRecord]:
    """The believed records of a sweep's cells."""
    root = Path(cells[0].results_dir)
    records = load(root).completed if root.is_dir() else []
    by_run = {_run(loading.from_description(r.config)): r for r in records if r.key == key_of(r)}
    return [by_run[run] for config in cells if (run := _run(config)) in by_run]


def _run(config: RunConfig) -> str:
    """A text that is equal for two configurations of the same run."""
    return repr(sorted(flat(identity(config)).items()))
