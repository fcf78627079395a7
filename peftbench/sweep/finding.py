"""`peftbench reproduce finding=<name>`: the runs of sweeps/finding_<name>.yaml, and what they say of its statement."""

from collections.abc import Sequence
from pathlib import Path

from peftbench.config import loading, paths
from peftbench.config.identity import identity
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, nearest
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.report.load import flat, load
from peftbench.results.reproduction import findings
from peftbench.sweep import launch
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import redact

_PREFIX = "finding_"


def names(folders: Sequence[Path] = ()) -> list[str]:
    """The findings that there are sweeps for."""
    sweeps = paths.choices("sweep", folders)
    return [name.removeprefix(_PREFIX) for name in sweeps if name.startswith(_PREFIX)]


def main(arguments: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """0: it holds here; 1: it doesn't, or a run failed; 3: nothing can be told."""
    name = next(word.partition("=")[2] for word in arguments if word.startswith("finding="))
    if name not in names(folders):
        raise ConfigError(f"finding={name}: no such finding; {nearest(name, names(folders))}")
    words = [
        word for word in arguments if not word.startswith("finding=") and word not in ("train=true", "train=false")
    ]
    sweep = [f"sweep={_PREFIX}{name}", *words]
    finding = findings.read(name, loading.read_yaml(paths.choice_files("sweep", folders)[f"{_PREFIX}{name}"]))
    cells = plan_cells(sweep, multirun=True, config_dirs=folders).cells
    status = 0
    if "train=false" not in arguments:
        status = launch.main([*(f"--config-dir={folder}" for folder in folders), *sweep])
        if cells[0].dry_run:
            return status
    records, missing = _recorded(cells)
    result = findings.judge(finding, records, missing)
    print(redact.redact(findings.text(result)))
    return status or findings.STATUSES[result.answer]


def _recorded(cells: Sequence[RunConfig]) -> tuple[list[RunRecord], list[str]]:
    """The believed records of a sweep's cells, and what isn't recorded."""
    root = Path(cells[0].results_dir)
    records = load(root).completed if root.is_dir() else []
    by_run = {_run(loading.from_description(r.config)): r for r in records if r.key == key_of(r)}
    believed = [by_run[run] for config in cells if (run := _run(config)) in by_run]
    lacking = len(cells) - len(believed)
    return believed, [f"{lacking} of its {len(cells)} runs"] if lacking else []


def _run(config: RunConfig) -> str:
    """What makes two configurations the same run."""
    return repr(sorted(flat(identity(config)).items()))
