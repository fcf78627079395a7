"""Reads W&B's offline files: its own protocol buffers, in the log format of LevelDB, of which W&B's Python package has
no reader."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Bytes of the file's own header, of a block, and of a part's header: checksum (4), length (2), kind (1).
_FILE_HEADER, _BLOCK, _HEADER = 7, 32768, 7
#: What Lightning calls the step.
STEP = "trainer/global_step"
#: Kinds of parts: a whole record, its first, middle and last part.
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def messages(file: Path) -> Iterator[bytes]:
    """The messages of a file, up to what a killed process has left half written."""
    data, at, begun = file.read_bytes(), _FILE_HEADER, b""
    while at + _HEADER <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _HEADER:  # Too short for a header: padded with zeros.
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + _HEADER])
        part = data[at + _HEADER : at + _HEADER + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(part) < length:
            return
        begun = part if kind in (_FULL, _FIRST) else begun + part
        if kind in (_FULL, _LAST):
            yield begun
        at += _HEADER + length


def offline_runs(folder: Path) -> list[dict[str, Any]]:
    """The offline runs below a folder, the earliest first: names, steps, summary, how each ended."""
    files = sorted(folder.rglob("run-*.wandb"), key=lambda file: file.stat().st_ctime_ns)
    return [_run(file) for file in files]


def _run(file: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2  # Its module is filled when it is imported.

    run: dict[str, Any] = {"steps": [], "metrics": set(), "summary": {}, "exit": None, "preempted": False}
    for message in messages(file):
        record: Any = getattr(wandb_internal_pb2, "Record")()  # noqa: B009
        record.ParseFromString(message)
        match record.WhichOneof("record_type"):
            case "run":
                names = ("run_id", "run_group", "job_type", "display_name", "project")
                run |= {name: getattr(record.run, name) for name in names}
            case "history":
                run["steps"] += [
                    int(value) for name, value in _items(record.history.item) if name == "trainer/global_step"
                ]
            case "metric":
                run["metrics"].add((record.metric.name or record.metric.glob_name, record.metric.step_metric))
            case "summary":
                run["summary"] |= dict(_items(record.summary.update))
            case "exit":
                run["exit"] = record.exit.exit_code
            case "preempting":
                run["preempted"] = True
    run["steps"] = list(dict.fromkeys(run["steps"]))
    return run


def _items(items: Any) -> Iterator[tuple[str, str]]:
    return ((item.key or item.nested_key[0], item.value_json) for item in items)
