"""The machines that the runs of a report were made on: figures of different machines don't compare."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from peftbench.results.records import RunRecord
from peftbench.results.report import alike

#: The packages whose version can change a score or a figure the most.
_PACKAGES = ("torch", "transformers", "peft")


def collect(records: Iterable[RunRecord]) -> list[str]:
    """A line for every machine, choice of `hardware=` and set of package versions, the one with the most runs first."""
    by_machine: defaultdict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for members in kinds(records):
        by_machine[_machine(members[0]), _versions(members[0])] += members
    ordered = sorted(by_machine.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        f"{_runs(members)} on {machine}; {versions}; {_when(members)}{_beside(members)}"
        for (machine, versions), members in ordered
    ]


def kinds(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Records by machine and packages: those of one list have these in common, and perhaps those of another too."""
    return alike.groups(records, _said)


def _said(record: RunRecord) -> tuple[object, ...]:
    said = map((record.environment or {}).get, ("cpu", "cpu_count", "threads", "gpu", "packages"))
    return (*said, record.config["hardware"])


def briefly(record: RunRecord) -> str:
    """CPU, threads and GPUs of a run: what its times and its memory depend on most."""
    environment = record.environment
    gpus = ", ".join(environment.get("gpu") or []) or "no GPU"
    return f"{environment.get('cpu')}, {environment.get('threads')} threads, {gpus}"


def _machine(record: RunRecord) -> str:
    """`briefly`, with cores and the choice of `hardware=`."""
    environment = record.environment or {}
    gpus = ", ".join(environment.get("gpu") or [])
    threads = environment.get("threads")
    parts = [
        f"{environment.get('cpu') or 'an unknown CPU'}, {environment.get('cpu_count') or '?'} cores",
        *([gpus] if gpus else []),
        f"hardware={record.config['hardware']['name']}",
        *([f"{threads} thread{'s' if threads != 1 else ''} a run"] if threads else []),
    ]
    return ", ".join(parts)


def _versions(record: RunRecord) -> str:
    packages = (record.environment or {}).get("packages") or {}
    return ", ".join(f"{name} {packages[name]}" for name in _PACKAGES if name in packages) or "versions unknown"


def _runs(records: Sequence[RunRecord]) -> str:
    dirty = sum(bool((r.environment or {}).get("git_dirty")) for r in records)
    commits = sorted({str(c)[:8] for r in records if (c := (r.environment or {}).get("git_commit"))})
    made_of = f" of commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}" if commits else ""
    changed = f", {dirty} of them from a checkout with uncommitted changes" if dirty else ""
    return f"{len(records)} run{'s' if len(records) != 1 else ''}{made_of}{changed}"


def _when(records: Sequence[RunRecord]) -> str:
    started = sorted(s for r in records if (s := (r.environment or {}).get("started_unix_s")) is not None)
    days = list(dict.fromkeys(datetime.fromtimestamp(s, UTC).date().isoformat() for s in started))
    return {0: "at an unknown time", 1: days[0] if days else ""}.get(len(days)) or f"{days[0]} to {days[-1]}"


def _beside(records: Sequence[RunRecord]) -> str:
    most = max(((r.environment or {}).get("jobs_beside") or 0 for r in records), default=0)
    return f"; up to {most} other run{'s' if most != 1 else ''} beside one, which costs speed" if most else ""
