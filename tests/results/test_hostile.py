"""Records, live files and names that somebody else wrote: read or named as unreadable, whatever is in them, and shown
without effect on what they are shown in."""

import copy
import csv
import io
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results import activity, announcements
from peftbench.results.key import run_key
from peftbench.results.reading import key_of, read
from peftbench.results.records import RecordError, RunRecord, decode
from peftbench.results.report import load, render_markdown
from peftbench.results.report.score_tables import wide
from peftbench.results.report.stats import leaderboard
from peftbench.results.store import ResultStore
from peftbench.sweep import estimates
from peftbench.system import escape, files
from tests.helpers.composed import composed

Run = Callable[..., tuple[int, str, str]]

#: What stands in the place of a value, as JSON text.
HOSTILE = {
    "null": "null", "true": "true", "text": '"x"', "empty text": '""', "number": "1.5", "below 0": "-1", "list": "[]",
    "list of lists": "[[[[]]]]", "list of numbers": "[1]", "object": "{}", "object of objects": '{"a": {"": {}}}',
    "400 digits": "9" * 400, "6000 digits": "9" * 6000, "1e308": "1e308", "1e999": "1e999", "-1e18": "-1e18",
    "1e18 as a whole": "1" + 18 * "0", "NaN": "NaN", "Infinity": "-Infinity", "surrogate": '"\\ud800"',
    "zero byte": '"\\u0000"', "escape": '"\\u001b[2J\\u202e\\u0007\\n# heading"', "markdown": '"|`<script>](x)*"',
    "formula": '"=cmd|\' /C calc\'!A0"', "markup": '"[/red][link=x]"', "path": '"../../../../etc/passwd"',
    "long": '"' + "x" * 1_000_000 + '"', "deep": "[" * 500 + "]" * 500, "very deep": '{"a":' * 5000 + "1" + "}" * 5000,
}  # fmt: skip


def whole(config: RunConfig) -> RunRecord:
    """A record with a value in every field."""
    answers = {"n": 5, "cut": 1, "parts": {"a": {"n": 5}}, "data_fingerprint": "q", "before": 0.5, "after": 0.25,
               "difference": -0.25, "difference_se": 0.1}  # fmt: skip
    split = {"values": {"accuracy": 0.5}, "score": 0.5, "loss": 0.7, "n": 9, "truncated": 0, "directions": {"a": "max"}}
    record = RunRecord(
        key="",
        status="completed",
        config=identity.description(config),
        metrics={"train": split, "selection": split, "validation": split},
        score=0.5,
        selected_step=3,
        params={"trainable": 10, "adapter": 8, "head": 2, "total": 100},
        efficiency={
            **{"peak_memory_bytes": 5, "train_samples_per_s": 20.0, "run_time_s": 9.0, "train_time_s": 5.0},
            **{"train_cores_fraction": 1.0, "inference_cores_fraction": 0.5, "memory_parts_bytes": {"weights": 5}},
        },
        samples={"train": 80, "examples": 80, "truncated": 0},
        learnt={"soft_prompt": [[{"token": "a", "similarity": 0.5}]]},
        changed=["method.lr=0.1"],
        environment={
            **{"data_fingerprint": "d", "model_fingerprint": "m", "inputs": {"teacher": "t"}, "cpu": "c", "gpu": ["g"]},
            **{"packages": {"torch": "2"}, "git_commit": "abc", "git_dirty": False, "cpu_count": 2, "threads": 1},
            **{"started_unix_s": 1, "jobs_beside": 1, "questions": {"mmlu": "q"}},
        },
        forgetting={"mmlu": answers},
        evaluation={
            "calibration": {"n": 5, "ece": 0.1, "brier": 0.2, "selective_accuracy_50": 1.0, "temperature": 1.5},
            "robustness": {"case": {"n": 5, "changed": 2, "score": 0.4, "drop": 0.1, "drop_low": 0.0}},
            "slices": {"region": {"groups": {"north": {"n": 5, "score": 0.5}}, "worst": "north"}},
        },
        footnotes=["note"],
        tuning={"trials": 2, "tried": [{"values": {"lr": 0.1}, "score": 0.5}]},
        log="logs/x",
        log_tail=["a line"],
    )
    record.key = key_of(record)
    return record


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value is within a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*before, name)
        yield from paths(part, (*before, name))


def altered(value: Any, where: tuple[Any, ...], text: str) -> str:
    """JSON with a text in the place of one of its values."""
    changed = copy.deepcopy(value)
    part = changed
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = "@here@"
    return json.dumps(changed).replace('"@here@"', text)


def renamed(value: Any, where: tuple[Any, ...], text: str) -> str | None:
    """JSON with a text for the name of one of its values."""
    if not text.startswith('"') or not isinstance(where[-1], str):
        return None
    changed = copy.deepcopy(value)
    part = changed
    for name in where[:-1]:
        part = part[name]
    part["@here@"] = part.pop(where[-1])
    return json.dumps(changed).replace('"@here@"', text)


def check_shown(*texts: str) -> None:
    """What a terminal would act on is not in what is shown."""
    for text in texts:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        text.encode()


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


class TestOneRun:
    def test_a_copied_folder_counts_once(self, results: Path, run_cli: Run) -> None:
        config = composed(["model=tiny_bert"])
        file = ResultStore(results).put(config, whole(config))
        for number in range(2):
            copied = results / "records" / f"demo (copy {number})" / file.name
            copied.parent.mkdir(parents=True)
            copied.write_bytes(file.read_bytes())
        out = run_cli("report", f"results_dir={results}")[1]
        assert "50.0" in out
        assert out.count("the same run as") == 2
        assert "1 completed" in out
        assert "## Doubtful" in (results / "leaderboard.md").read_text()

    def test_two_records_of_one_key_are_two_runs(self, results: Path) -> None:
        records = []
        for method, score in (("lora", 0.2), ("bitfit", 0.9)):
            record = whole(composed(["model=tiny_bert", f"method={method}"]))
            record.key, record.score = "k", score
            records.append(record)
        (results / "records").mkdir(parents=True)
        for number, record in enumerate(records):
            (results / "records" / f"{number}.json").write_text(json.dumps(record.to_dict()))
        board = leaderboard(load.load(results))
        assert [(row.method, [c.mean for c in row.cells.values() if c]) for row in board.rows] == [
            ("bitfit", [0.9]),
            ("lora", [0.2]),
        ]
        assert [reason.partition(",")[0] for _, reason in board.doubtful] == ["its file's name is another run's"] * 2

    def test_a_seed_that_was_written_into_a_copy_is_named(self, results: Path) -> None:
        config = composed(["model=tiny_bert"])
        file = ResultStore(results).put(config, whole(config))
        file.with_name("0.json").write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
        (named,) = load.load(results).doubtful
        assert named[0].endswith("0.json")


PUBLISHED = sorted((Path(__file__).parents[2] / "results" / "published").glob("*/records/**/*.json"))


class TestKeys:
    def test_every_published_record_is_believed(self) -> None:
        assert len(PUBLISHED) > 200
        for file in PUBLISHED:
            record = read(file)
            assert isinstance(record, RunRecord), (file, record)
            assert record.status == "not_applicable" or key_of(record) == record.key == file.stem, file

    @pytest.mark.parametrize(
        "words",
        [["model=tiny_gpt2", "forgetting=mmlu"], ["dataset=record"], ["dataset=stsb", "formulation=verbaliser"],
         ["method=galore"], ["hardware=cpu_bf16"], ["dataset=wsc"], ["dataset=samsum", "model=tiny_t5"],
         ["dataset=mixture", "dataset.parts=[rte,sst2]"]],
    )  # fmt: skip
    def test_the_key_by_a_record_is_that_by_its_configuration(self, words: list[str]) -> None:
        config = composed(["model=tiny_bert", *words])
        questions = {name: "q" for name in config.forgetting or {}}
        environment = {"data_fingerprint": "d", "model_fingerprint": "m", "inputs": {"teacher": "t"}}
        described = json.loads(json.dumps(identity.description(config)))
        record = RunRecord(key="", status="completed", config=described, environment=environment)
        inputs = {"teacher": "t", **{f"forgetting.{name}": "q" for name in questions}}
        record.environment["questions"] = questions
        assert key_of(record) == run_key(config, data="d", model="m", inputs=inputs)


class TestEscape:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [("\x1b[2Jx", r"\x1b[2Jx"), ("a\nb\tc\r", "a b c "), ("\u202egnp", r"\u202egnp"), ("\x9b1m", r"\x9b1m"),
         ("\ud800", r"\ud800"), ("\u2028", r"\u2028"), ("हिन्दी 中文 👩‍🔬", "हिन्दी 中文 👩‍🔬")],
    )  # fmt: skip
    def test_line(self, text: str, shown: str) -> None:
        assert escape.line(text) == shown

    @pytest.mark.parametrize(
        ("text", "shown"),
        [("# x", r"\# x"), ("- x", r"\- x"), ("12. x", r"12\. x"), ("<script>", "&lt;script&gt;"),
         ("[a]: x", r"\[a]: x"), ("[a](x)", r"\[a\](x)"), ("a | `b`", r"a | \`b\`"),
         ("tiny_bert · lr=0.1", "tiny_bert · lr=0.1"),
         ("\\|", r"\\|")],
    )  # fmt: skip
    def test_markdown(self, text: str, shown: str) -> None:
        assert escape.begin(text) == shown

    def test_a_table_keeps_its_cells(self) -> None:
        for text in ("a|b", "a\\|b", "a\\\\|b", "`|`", "\n|\n"):
            cell = escape.table_cell(text)
            assert not re.search(r"(?<!\\)(?:\\\\)*\|", cell), cell

    def test_code(self) -> None:
        assert escape.code("a") == "`a`"
        assert escape.code("a``b`") == "``` a``b` ```"

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1"])
    def test_csv(self, text: str) -> None:
        assert escape.cell(text).startswith("'")
        assert escape.cell("lora") == "lora"

    def test_a_report_of_hostile_names(self, results: Path) -> None:
        config = composed(["model=tiny_bert"])
        record = whole(config)
        record.config = {**record.config, "method": {**record.config["method"], "name": "=x|`\x1b[1m<b>"}}
        (results / "records").mkdir(parents=True)
        (results / "records" / "a.json").write_text(json.dumps(record.to_dict()))
        board = leaderboard(load.load(results))
        lines = wide(board).splitlines()
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(re.findall(r"\|", lines[1]))}
        assert "<b>" not in wide(board) + render_markdown.render(board)
