"""Records, live files and names that somebody else wrote: read or named as unreadable, whatever is in them, and shown
without effect on what they are shown in."""

import csv
import io
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from peftbench.config import identity
from peftbench.results import activity, announcements
from peftbench.results.reading import read
from peftbench.results.records import RecordError, RunRecord, decode
from peftbench.results.report import load, render_markdown
from peftbench.results.report.score_tables import wide
from peftbench.results.report.stats import leaderboard
from peftbench.results.store import ResultStore
from peftbench.sweep import estimates
from peftbench.system import files
from tests.helpers.composed import composed
from tests.helpers.hostile import HOSTILE, altered, check_shown, paths, renamed, whole
from tests.helpers.runs import Run


@pytest.mark.parametrize("hostile", HOSTILE)
def test_altered_records_end_no_report_and_no_run(results: Path, run_cli: Run, hostile: str) -> None:
    config = composed(["model=tiny_bert", f"results_dir={results}"])
    good, folder = whole(config), results / "records" / "a" / "b" / "c"
    folder.mkdir(parents=True)
    (folder / f"{good.key}.json").write_text(json.dumps({**good.to_dict(), "status": "completed"}))
    value, number = {**good.to_dict(), "config": {**good.config, "seed": 7}}, 0
    for where in paths(value):
        for text in (altered(value, where, HOSTILE[hostile]), renamed(value, where, HOSTILE[hostile])):
            if text is not None and len(text) < 2_000_000:
                (folder / f"x{number}.json").write_text(text)
                number += 1
    assert number > 100
    before = sorted(folder.iterdir())
    status, out, err = run_cli("report", f"results_dir={results}")
    assert (status, err) == (0, "")
    assert sorted(folder.iterdir()) == before
    markdown, table = ((results / f"leaderboard.{kind}").read_text() for kind in ("md", "csv"))
    check_shown(out, markdown, table)
    assert "<script" not in markdown
    assert not [line for line in markdown.splitlines() if line.startswith("# ")][1:]
    assert {len(row) for row in csv.reader(io.StringIO(table))} == {len(next(csv.reader(io.StringIO(table))))}
    assert not [cell for row in csv.reader(io.StringIO(table)) for cell in row if cell.startswith(("=", "@", "+"))]
    assert estimates.seconds([config])[0] is None or estimates.seconds([config])[0] > -1e19
    assert not ResultStore(results).completed(config, "x0")


def test_a_figure_is_a_number_and_no_object() -> None:
    """Whoever compares one would end in a traceback."""
    good = whole(composed(["model=tiny_bert"])).to_dict()
    for name in good["efficiency"]:
        altered_text = json.dumps({**good, "efficiency": {**good["efficiency"], name: {"a": 1}}}).encode()
        if name == "memory_parts_bytes":
            assert decode(altered_text).efficiency[name] == {"a": 1}
        else:
            with pytest.raises(RecordError, match=rf"efficiency\.{name}"):
                decode(altered_text)


def test_records_with_wrong_bytes_are_named(results: Path, run_cli: Run) -> None:
    """Bytes changed, cut off and put in at random."""
    good = whole(composed(["model=tiny_bert"]))
    folder, draw = results / "records", random.Random(0)
    folder.mkdir(parents=True)
    (folder / f"{good.key}.json").write_text(json.dumps(good.to_dict()))
    for number in range(300):
        data = bytearray(json.dumps(good.to_dict()).encode())
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
        (folder / f"x{number}.json").write_bytes(data[: draw.randint(0, len(data))] if number % 3 == 0 else data)
    status, out, err = run_cli("report", f"results_dir={results}")
    assert (status, err) == (0, "")
    check_shown(out, (results / "leaderboard.md").read_text())
    assert "no record" in out


def _fifo(file: Path) -> None:
    os.mkfifo(file)


def _socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(file.parent)  # An address has room for 108 bytes.
        listener.bind(file.name)
        os.chdir(here)


def _nothing(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(10 << 30)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "fifo": _fifo,
    "link to a fifo": lambda file: (_fifo(file.with_name("fifo")), file.symlink_to("fifo"))[-1],  # type: ignore[func-returns-value]
    "socket": _socket,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "terminal": lambda file: file.symlink_to("/dev/tty"),
    "10 GB of nothing": _nothing,
    "folder": lambda file: file.mkdir(),
    "link to itself": lambda file: file.symlink_to(file.name),
    "link to nothing": lambda file: file.symlink_to("nothing"),
    "link to a folder": lambda file: file.symlink_to("."),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_plain_file_is_neither_waited_for_nor_read(results: Path, run_cli: Run, kind: str) -> None:
    config = composed(["model=tiny_bert", f"results_dir={results}"])
    store, good = ResultStore(results), whole(config)
    file = store.put(config, good)
    SPECIAL[kind](file.with_name("x.json"))
    for name in ("run-x-1.json", "sweep-x-1.json"):
        (results / "live").mkdir(exist_ok=True)
        SPECIAL[kind](results / "live" / name)
        (results / "live" / "fifo").unlink(missing_ok=True)
    assert isinstance(read(file.with_name("x.json")), RecordError)
    assert run_cli("report", f"results_dir={results}")[0] == 0
    assert run_cli("status", f"results_dir={results}")[0] == 0
    assert estimates.seconds([config]) == [9.0] or estimates.seconds([config]) == [None]
    with activity.reporting(config, "n") as tell:
        tell({"event": "phase", "phase": "training"})
    SPECIAL[kind](results / "live" / "again.json")
    with pytest.raises(OSError, match="no plain file|bytes, at most|No such file|Too many levels"):
        files.read_plain(results / "live" / "again.json", most=100)


def test_a_newer_file_of_a_live_process_is_left_there(results: Path, run_cli: Run) -> None:
    (results / "live").mkdir(parents=True)
    file = results / "live" / "run-x-1.json"
    file.write_text('{"version": 2}')
    assert (
        "live/run-x-1.json: can't be read (Object missing required field"
        in run_cli("status", f"results_dir={results}")[1]
    )
    assert file.exists()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_altered_live_files_end_no_status_and_no_run(results: Path, run_cli: Run, hostile: str) -> None:
    here = results / "live"
    here.mkdir(parents=True)
    config = composed(["model=tiny_bert", f"results_dir={results}"])
    now, runs = (
        time.time(),
        [
            announcements.ExpectedRecord("r", "records/a/b/c/k.json", "n", 1, 5.0),
            announcements.ExpectedRecord("s", "s.json", "s"),
        ],
    )
    running = activity.RunActivity(activity.me(), "r", "n", now, now, "training", 1, 9, 0.5, 0.5, 1)
    values = {
        "run": asdict(running),
        "sweep": asdict(announcements.SweepActivity(activity.me(), "line", now, 1, 1, runs)),
    }
    for kind, value in values.items():
        for number, where in enumerate(paths(value)):
            texts = {"a": altered(value, where, HOSTILE[hostile]), "b": renamed(value, where, HOSTILE[hostile])}
            for form, text in texts.items():
                if text is not None:
                    (here / f"{kind}-{form}-{number}.json").write_text(text)
    status, out, err = run_cli("status", f"results_dir={results}")
    assert (status, err) == (0, "")
    check_shown(out)
    with announcements.announced(results, announcements.SweepActivity(activity.me(), "line", now, 1, runs=runs)):
        with activity.reporting(config, "n") as tell:
            assert tell({"event": "step", "step": 1, "steps": 2, "loss": float("nan"), "score": None}).loss is None
            tell({"event": "phase", "phase": "evaluating"})
            assert [state.phase for state in activity.running(results) if state.name == "n" and state.step == 1]


def test_what_no_encoding_has_is_written_and_read_back(results: Path) -> None:
    """A file's name that isn't UTF-8 reaches a command line and errors as lone surrogates."""
    config = composed(["model=tiny_bert"])
    failed = RunRecord(key="k", status="error", error="no file a\udcff", config=identity.description(config))
    written = read(ResultStore(results).put(config, failed))
    assert isinstance(written, RunRecord)
    assert written.error == "no file a?"
    sweep = announcements.SweepActivity(activity.me(), "dataset.train_file=a\udcff", time.time(), 1)
    with announcements.announced(results, sweep):
        assert [shown.line for shown in announcements.sweeps(results)] == ["dataset.train_file=a?"]


def test_a_report_of_hostile_names(results: Path) -> None:
    config = composed(["model=tiny_bert"])
    record = whole(config)
    record.config = {**record.config, "method": {**record.config["method"], "name": "=x|`\x1b[1m<b>"}}
    (results / "records").mkdir(parents=True)
    (results / "records" / "a.json").write_text(json.dumps(record.to_dict()))
    board = leaderboard(load.load(results))
    lines = wide(board).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(re.findall(r"\|", lines[1]))}
    assert "<b>" not in wide(board) + render_markdown.render(board)
