"""Wrong configurations and inputs, from a generator: one line that says what is wrong, exit 2, and nothing trained.

The cases come from the schema and conf/ themselves: every key with values of the wrong type, outside its range and of
absurd size; every group with misspelt names; files that hold something else than they should.
"""

import dataclasses
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import paths, types
from peftbench.sweep import launch
from peftbench.system import process
from peftbench.system.process import Outcome
from tests.helpers.runs import sentences, write_split

Case = tuple[str, list[str]]

#: Texts that no key takes: words of other languages, control signs, half-open syntax, other people's tricks.
_TEXTS = [
    "ünïcödé",
    "学習率",
    "🙂",
    "a\u0000b",
    "a\nb",
    "../../etc/passwd",
    "${nowhere}",
    "${oc.env:HOME",
    "[1,2",
    "{a:",
    "'",
    '"',
]
_NUMBERS = [
    "-1",
    "0",
    "1e400",
    "nan",
    "-inf",
    "9" * 400,
    "0x10",
    "1_000_000_000_000_000_000_000",
    "1e-400",
    "--1",
    "1,5,",
]


def _leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, type, rule) of every single value of a run's configuration."""
    for f in dataclasses.fields(part):
        kind = typing.get_type_hints(part)[f.name]
        inner = [a for a in typing.get_args(kind) if a is not type(None)] or [kind]
        if dataclasses.is_dataclass(inner[0]):
            yield from _leaves(inner[0], f"{prefix}{f.name}.")
        elif typing.get_origin(inner[0]) is None and typing.get_origin(kind) not in (list, dict):
            yield f"{prefix}{f.name}", inner[0], f.metadata.get("rule")


#: Set by loading, or (in a model) by the choice of another file.
_NOT_GIVEN = ("name", "target", "experiment", "sweep")


def _wrong_values() -> Iterator[Case]:
    for turn, (key, kind, rule) in enumerate(_leaves(types.RunConfig)):
        if key.split(".")[-1] in _NOT_GIVEN or key.startswith("expected"):
            continue
        yield key, [f"{key}=[1,2]"]
        yield key, [f"{key}={{a: 1}}"]
        if kind in (int, float):
            yield key, [f"{key}=many"]
            # Three a key, each key another three: all of them with all keys take a minute.
            wrong = [number for number in _NUMBERS if _refused(kind, rule, number)]
            yield from ((key, [f"{key}={wrong[(3 * turn + i) % len(wrong)]}"]) for i in range(3))
        if kind is bool:
            yield key, [f"{key}=perhaps"]
            yield key, [f"{key}=17"]
        if kind is str and rule is not None:
            yield from ((key, [f"{key}={text}"]) for text in ("none_of_these", "ünïcödé"))


def _refused(kind: type, rule: Any, number: str) -> bool:
    """Whether a number lies outside, by Python's reading of it."""
    try:
        value = kind(number)
    except ValueError:
        return True
    return not (rule.holds(value) if rule is not None else abs(value) < float("inf"))


def _wrong_names() -> Iterator[Case]:
    for group in paths.groups():
        first = paths.choices(group)[0]
        for name in (
            f"{first}x",
            first.upper() + "_",
            f"../{group}/{first}",
            "",
            "ünïcödé",
            *([f"[{first}]"] if group != "logger" else []),  # Of loggers a list may be given.
            "1",
            "x" * 3000,
        ):
            yield group, [f"{group}={name}"]
        yield group, [f"{group}.nowhere=1"]
        yield group, [f"+{group}={first}.yaml"]


def _wrong_syntax() -> Iterator[Case]:
    for text in _TEXTS:
        yield "syntax", [f"recipe.epochs={text}"]
        yield "syntax", [text]
        yield "syntax", [f"{text}=1"]
    for option in ("--epochs", "-x", "--", "---", "--config-name=x", "--config-path=/"):
        yield "option", [option]
    for word in (
        "hydra/launcher=slurmy",
        "hydra/sweeper=optuna",
        "hydra.launcher.jobs=3",
        "hydra/nowhere=x",
        "hydra.mode=TWICE",
    ):
        yield "hydra", [word, "seed=0,1"]
    for word in (
        "zip=[a,b]",
        "zip=5",
        "exclude=5",
        "exclude=[seed]",
        "exclude=[seed=*]",
        "tune=0",
        "tune=many",
        "tune=1.5",
    ):
        yield "sweep", [word, "seed=0,1"]
    for word in (
        "seed=range(0,",
        "seed=interval(0,1)",
        "seed=choice()",
        "seed=range(5,0)",
        "seed=0,,1",
        "method=glob(zzz*)",
    ):
        yield "sweep", [word, "-m"]


CASES = [*_wrong_values(), *_wrong_names(), *_wrong_syntax()]


def test_there_are_enough() -> None:
    assert len({tuple(arguments) for _, arguments in CASES}) >= 150


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check in a fresh process says that all is well, at once: what is said is then said by the cheap checks; and a
    run that starts fails the test."""

    def call(target: str, *arguments: Any, **_: Any) -> Outcome:
        assert target == "peftbench.run.verify:verify", "a run was started"
        return Outcome(result=[None] * len(arguments[0]))

    def started(*_: Any, **__: Any) -> int:
        raise AssertionError("a run was started")

    monkeypatch.setattr(process, "call", call)
    monkeypatch.setattr(process, "warm_up", lambda: None)
    monkeypatch.setattr(launch, "_hydra", started)
    monkeypatch.setattr(launch, "_several", started)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    "group",
    [
        pytest.param(group, marks=[pytest.mark.slow] if group not in ("option", "hydra", "sweep", "syntax") else [])
        for group in sorted({group for group, _ in CASES})
    ],
)
def test_a_wrong_word_is_one_line(run_cli: Callable[..., tuple[int, str, str]], results: Path, group: str) -> None:
    wrong = []
    for arguments in (arguments for name, arguments in CASES if name == group):
        given = any(a.startswith(("model", "results_dir")) for a in arguments)
        try:
            status, _, err = run_cli(*arguments, *([] if given else ["model=tiny_bert", f"results_dir={results}"]))
        except BaseException as error:
            wrong.append((arguments, f"{type(error).__name__}: {str(error)[:200]}"))
            continue
        lines = err.strip().splitlines()
        if status != 2 or len(lines) != 1 or not lines[0].startswith("peftbench: ") or len(lines[0]) > 8000:
            wrong.append((arguments, status, lines))
    assert wrong == []


BROKEN: dict[str, tuple[str, bytes]] = {
    "no YAML": ("method/broken.yaml", b"lr: [1, 2\nadapter: {"),
    "a tab": ("method/broken.yaml", b"lr:\n\t- 1"),
    "a list": ("method/broken.yaml", b"- 1\n- 2\n"),
    "a word": ("method/broken.yaml", b"hello"),
    "nothing": ("method/broken.yaml", b""),
    "other bytes": ("method/broken.yaml", b"\xff\xfe\x00lr: 1"),
    "a key twice": ("method/broken.yaml", b"lr: 1\nlr: 2\n"),
    "a Python object": ("method/broken.yaml", b"!!python/object/apply:os.system [echo]"),
    "no class": ("method/broken.yaml", b"lr: 1e-3\nsupports: [encoder]\n"),
    "a data set without columns": ("dataset/broken.yaml", b"task: classification\n"),
    "a data set of an unknown task": (
        "dataset/broken.yaml",
        (paths.CONF / "dataset" / "rte.yaml").read_bytes().replace(b"task:", b"task: none #"),
    ),
    "a model that is a method": ("model/broken.yaml", (paths.CONF / "method" / "lora.yaml").read_bytes()),
    "a recipe with a word": ("recipe/broken.yaml", b"epochs: three\n"),
    "hardware of nothing": ("hardware/broken.yaml", b"accelerator: tpu\n"),
}


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_of_ones_own_is_one_line(run_cli, tmp_path: Path, results: Path, what: str) -> None:
    name, content = BROKEN[what]
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    group = file.parent.name
    model = [] if group == "model" else ["model=tiny_bert"]
    status, _, err = run_cli(f"--config-dir={tmp_path / 'mine'}", f"{group}=broken", *model, f"results_dir={results}")
    assert (status, len(err.strip().splitlines())) == (2, 1), err
    assert err.startswith("peftbench: ")


def _data(folder: Path) -> dict[str, Callable[[], None]]:
    sst2 = folder / "glue" / "sst2"

    def both(columns: dict[str, list[Any]]) -> None:
        for split in ("train", "validation"):
            write_split(sst2, split, columns)

    good = sentences(20, seed=1)
    return {
        "no file": lambda: sst2.mkdir(parents=True),
        "no Parquet": lambda: (
            [
                both(good),
                (sst2 / "train-00000-of-00001.parquet").write_bytes(b"PAR1 not really"),
            ]
            and None
        ),
        "an empty file": lambda: [both(good), (sst2 / "train-00000-of-00001.parquet").write_bytes(b"")] and None,
        "no label": lambda: both({k: v for k, v in good.items() if k != "label"}),
        "no text": lambda: both({k: v for k, v in good.items() if k != "sentence"}),
        "no validation": lambda: write_split(sst2, "train", good) and None,
        "a file for a folder": lambda: [sst2.parent.mkdir(parents=True), sst2.write_text("x")] and None,
    }


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("what", sorted(_data(Path())))
def test_broken_data_is_one_line(run_cli, tmp_path: Path, results: Path, what: str) -> None:
    _data(tmp_path)[what]()
    status, _, err = run_cli("model=tiny_bert", "dataset=sst2", f"data_root={tmp_path}", f"results_dir={results}")
    assert (status, len(err.strip().splitlines())) == (2, 1), err
    assert err.startswith("peftbench: ")
