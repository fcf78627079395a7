"""The rooms of the package: who may import whom, and what a name means. Read from the source, without importing it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "peftbench"

#: Rooms from the ground up. A room imports from rooms in lines above its own (and from itself) alone.
LAYERS = [
    ["errors", "__init__"],
    ["system"],
    ["config"],
    ["results", "data"],
    ["tasks"],
    ["models"],
    ["methods"],
    ["run.training"],
    ["run"],
    ["sweep"],
    ["api"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
HEAVY = {"torch", "transformers", "peft", "lightning"}
MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
#: Rooms of the parent process, and the modules of other rooms that it enters, which must start at once.
LIGHT = [
    module
    for module in MODULES
    if module.partition(".")[0] in ("cli", "api", "sweep", "config", "results", "system", "errors")
    and module != "system.ranks"
] + ["run.prepared", "models.checkpoints", "data.sources", "data.own_files", "data.forgetting"]


def imports(module: str, *, lazy: bool = True) -> Iterator[str]:
    """The full names that a module imports; `lazy`: within functions and TYPE_CHECKING blocks too."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def target(name: str) -> str | None:
    """The module of ours that an imported name stands for or lies in."""
    if not name.startswith("peftbench"):
        return None
    inner = name.removeprefix("peftbench").removeprefix(".")
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def arrows(module: str, *, lazy: bool = True) -> set[str]:
    """The modules of ours that one imports."""
    return {to for name in imports(module, lazy=lazy) if (to := target(name)) is not None}


def room(module: str) -> str:
    return next(name for name in (".".join(module.split(".")[:2]), module.partition(".")[0]) if name in LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    up = {to for to in arrows(module) if room(to) != room(module) and LEVEL[room(to)] >= LEVEL[room(module)]}
    assert not up
    if room(module) == "sweep":
        assert {to for to in arrows(module) if room(to).startswith("run")} <= {"run.prepared"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    rest = {module: arrows(module) - {module} for module in MODULES}
    while leaves := [module for module, to in rest.items() if not to & rest.keys()]:
        for module in leaves:
            del rest[module]
    assert not rest, "a circle among these"


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_command_line_imports_is_free_of_torch(module: str) -> None:
    seen: set[str] = set()
    todo = [module]
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += arrows(here, lazy=False)
    heavy = {m: name for m in seen for name in imports(m, lazy=False) if name.partition(".")[0] in HEAVY}
    assert not heavy
    assert not {name for name in imports(module) if name.partition(".")[0] in HEAVY}


def test_no_two_classes_have_one_name() -> None:
    """A message, a search and a reader's memory know a class by its name alone."""
    where = defaultdict(list)
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{module}:{node.lineno}")
    assert where
    assert not {name: places for name, places in where.items() if len(places) > 1}


#: Rooms whose `__init__` is more than a description, and why.
_WITH_CODE = {
    "methods": "registers our own tuners with peft, which reads saved adapters by it",
    "tasks": "`tasks.build` is the way in, without torch for who wants a metric alone",
    "tasks/metrics": "`metrics.path` and its neighbours are what users call",
}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*/__init__.py")), ids=lambda file: file.parent.name)
def test_a_room_is_described_in_five_lines_and_holds_no_code(file: Path) -> None:
    """Code in `__init__.py` runs for whoever imports anything of the room, and is looked for nowhere."""
    text, *code = ast.parse(file.read_text()).body
    assert isinstance(text, ast.Expr)
    assert isinstance(text.value, ast.Constant), "it opens with what lives there"
    assert text.end_lineno is not None
    assert text.end_lineno - text.lineno < 5
    assert not code or file.parent.relative_to(PACKAGE).as_posix() in _WITH_CODE


def test_every_room_is_in_the_picture() -> None:
    """Adding a folder or a file at the top of the package means saying where it stands."""
    assert {
        entry.stem for entry in PACKAGE.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()
    } == {name for name in LEVEL if "." not in name}
