"""README and docs/: every command composes, every link leads somewhere, generated parts are as generated."""

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import cli
from peftbench.config import compose, paths
from peftbench.config.arguments import config_dirs
from peftbench.results.reproduction import counts
from peftbench.run.training import sinks
from peftbench.sweep import estimate, reproduce
from peftbench.sweep.cells import plan
from tests.test_layers import LEVEL

ROOT = Path(__file__).parents[2]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
#: What is read besides: results/ has pages of its own.
LINKED = [*PAGES, CONTRIBUTING, ROOT / "CHANGELOG.md", *sorted((ROOT / "results").glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- begin: python -m peftbench (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)
_OURS = "python -m peftbench"
#: What only shows: answered by Hydra itself.
_SHOWS = ("--cfg",)


def commands(page: Path) -> list[str]:
    """Every command of ours in a page, blocks and text, without the word `peftbench` and what is before it; a
    placeholder `<...>` is one word."""
    text = page.read_text(encoding="utf-8")
    lines = [line for _, block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(python -m peftbench[^`]*)`", _BLOCK.sub("", text))
    ours = [re.sub(r"<[^>]*>", "placeholder", line).partition(_OURS)[2] for line in lines if _OURS in line]
    return [re.sub(r"\s+# .*", "", line).strip() for line in ours]


COMMANDS = sorted({line for page in PAGES for line in commands(page)})
#: Those that describe runs; the rest are commands by name.
RUNS = [line for line in COMMANDS if not line or line.split()[0] not in (*cli.COMMANDS, "help")]
OTHERS = [line for line in COMMANDS if line not in RUNS]
#: Where runs get what the extra `demo` doesn't bring: another model, data, GPU, a finished run, an extra.
_ELSEWHERE = r"\b(model|sweep|tune|zip|forgetting|hydra/launcher)=|dataset=(?!demo|csv)|=gpu|placeholder|--cfg"
#: Those that can be planned with what is here.
DEMO = [line for line in RUNS if not re.search(_ELSEWHERE, line)]


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of: each YAML block under the name before it, and CSV files."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in (block for block in _BLOCK.finditer(text) if block[1] == "yaml"):
            name = re.findall(r"`(mine/[\w/]+\.yaml)`", text[: block.start()])[-1]
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block[2], encoding="utf-8")
        for block in (block for block in _BLOCK.finditer(text) if block[1] == "python"):
            for name in re.findall(r"\A# (mine/\w+\.py):", block[2]):
                (tmp_path / name).write_text(block[2], encoding="utf-8")
    for name in ("train", "dev", "tickets"):
        with (tmp_path / "mine" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["review", "stars"], *([f"text {i}", i % 2] for i in range(20))])
    (tmp_path / "my-bert").mkdir()  # A checkpoint of the reader's own.
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_commands() -> None:
    assert len(RUNS) > 20
    assert len(DEMO) > 4
    assert {line.split()[0] for line in OTHERS} >= {"report", "list", "status", "clean", "convert"}


@pytest.mark.parametrize("line", RUNS)
def test_a_command_composes(line: str, in_a_folder: Path) -> None:
    """Data, checkpoints and records need not be there for that."""
    words, folders = config_dirs(shlex.split(line))
    if set(words) & set(_SHOWS):
        words = words[: min(words.index(option) for option in _SHOWS if option in words)]
    multirun = "-m" in words
    overrides = compose.canonical([word for word in words if word != "-m"], folders)
    assert plan(overrides, multirun=multirun, config_dirs=folders).cells


def test_an_example_file_can_be_chosen(in_a_folder: Path) -> None:
    files = sorted(Path("mine").glob("*/*.yaml"))
    assert {file.parent.name for file in files} >= {"method", "model", "hardware", "logger"}
    words = [f"{file.parent.name}={file.stem}" for file in files]
    (config,) = plan(words, multirun=False, config_dirs=[Path("mine")]).cells
    sinks.check(config)


@pytest.mark.parametrize("line", DEMO)
def test_a_command_that_needs_nothing_is_planned(line: str, in_a_folder: Path, run_cli: Callable) -> None:
    """The whole preflight, adapters' fit to the model among it; training itself takes minutes."""
    status, out, error = run_cli(*shlex.split(line), "dry_run=true")
    assert status == 0, out + error


@pytest.mark.parametrize("line", OTHERS)
def test_a_command_by_name_is_one(line: str, in_a_folder: Path, run_cli: Callable) -> None:
    command, *words = shlex.split(line)
    if command == "convert":  # Needs the extra `gguf` and a package: its words are a run's.
        assert compose.one(words)
    # They need a finished run: tests/end_to_end makes some.
    elif command in ("predict", "export", "push", "latency") or "records=results" in words:
        assert run_cli(command, *words)[0] == 2
    elif command == "reproduce" and any(word.startswith("experiment=") for word in words):  # It would train.
        asked = reproduce.request(words, [])
        assert [reproduce.first_run(asked, dataset).dataset.name for dataset in asked.datasets] == asked.datasets
    elif command == "reproduce" and any(word.startswith("finding=") for word in words):
        assert f"finding_{words[0].partition('=')[2]}" in paths.choices("sweep")
    elif [command, *words] == ["reproduce", "counts"]:  # Minutes; tests/methods counts.
        assert counts.published()["rows"]
    elif command == "estimate":  # Of a small model: tests/run estimates others.
        _, runs = estimate.take(words)
        assert plan(compose.canonical(runs, []), multirun=False).cells
        small = ["model=tiny_bert" if word.startswith("model=") else word for word in words]
        status, out, error = run_cli(command, *small)
        assert status == 0, out + error
    elif command != "check":  # tests/config checks every file.
        for folder in ("results", "results/published/a_study"):  # Most read a results folder.
            (in_a_folder / folder / "records").mkdir(parents=True)
        status, out, error = run_cli(command, *words)
        assert status == 0, out + error


@pytest.mark.slow
def test_the_first_command_trains(in_a_folder: Path, run_cli: Callable) -> None:
    """The README's first, with fewer steps; `.ci/run` makes it as it stands."""
    status, out, error = run_cli("recipe.max_steps=2", "recipe.eval_samples=8", "measure=false")
    assert status == 0, out + error
    assert list(Path("results", "records").rglob("*.json"))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            missing.append(link)
    assert not missing


def _anchors(page: Path) -> set[str]:
    """The headings of a page as a link names them."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:peftbench|tests|conf|sweeps|benchmarks)/[\w/.*]+)`", page.read_text(encoding="utf-8"))
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/")))]


def test_every_page_can_be_found() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", README.read_text(encoding="utf-8")))
    assert linked == {str(page.relative_to(ROOT)) for page in PAGES[1:]}


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.name)
def test_a_page_is_short(page: Path) -> None:
    """What is written by hand: a list that a command prints is as long as it is."""
    most = {README: 120, CONTRIBUTING: 60}.get(page, 110)
    assert len(_GENERATED.sub("", page.read_text(encoding="utf-8")).splitlines()) <= most


def test_no_command_is_said_twice() -> None:
    pages: dict[str, list[str]] = {}
    for page in PAGES:
        for line in commands(page):
            pages.setdefault(line, []).append(page.name)
    assert {line: names for line, names in pages.items() if len(names) > 1} == {}


def test_every_room_is_in_the_picture() -> None:
    picture = _BLOCK.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))[0][1]
    rooms = {room.replace(".", "/") for room in LEVEL if not room.startswith("__")}
    assert {room for room in rooms if f"{room}/" not in picture and f"{room}.py" not in picture} == set()


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page in PAGES for words, _ in _GENERATED.findall(page.read_text(encoding="utf-8"))],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_a_generated_part_is_what_its_command_prints(
    page: Path, words: str, run_cli: Callable, request: pytest.FixtureRequest
) -> None:
    """`python -m pytest tests/docs --update-docs` writes it anew."""
    status, out, error = run_cli(*shlex.split(words))
    assert status == 0, out + error
    text = page.read_text(encoding="utf-8")
    (current,) = (part for command, part in _GENERATED.findall(text) if command == words)
    if request.config.getoption("--update-docs"):
        begin = f"<!-- begin: {_OURS} {words} -->\n"
        page.write_text(text.replace(begin + current, f"{begin}\n{out.strip()}\n\n"), encoding="utf-8")
    else:
        assert current.strip() == out.strip()


def test_no_choice_is_named_that_is_not_there() -> None:
    """Methods in the pages' text: a page about a method that was renamed would be silently old."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    own = text.partition("## Tuners of our own")[2].partition("Several are kept")[0]
    assert {name for name in re.findall(r"`(\w+)`", own)} <= set(paths.choices("method"))
