"""Other libraries' private names stand in files that say what version they were written for, and nowhere else."""

import ast
from collections.abc import Iterator

from tests.test_layers import MODULES

TREES = {module: ast.parse(file.read_text()) for module, file in MODULES.items()}
#: Written for a version of torch too; tests/run/test_imports.py fails where that changes.
COMPILER = "run.compiler"
#: Documented, though they begin like private names.
PUBLIC = {"os._exit"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def ours() -> Iterator[str]:
    """The names that the package itself gives: functions, classes, variables, attributes."""
    for module in TREES:
        if module.endswith("_compat"):
            continue
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if ast.unparse(node.value) == "self":
                    yield node.attr


def used(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Private names that are read, imported or asked for, and the words around each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from ((part, ast.unparse(node)) for name in node.names for part in name.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(name.name for name in node.names)]
            yield from ((part, ast.unparse(node)) for part in parts)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            if isinstance(node.args[1], ast.Constant):
                yield node.args[1].value, ast.unparse(node)


def test_private_names_of_libraries_stand_in_compat_files_alone() -> None:
    own = set(ours())
    assert own
    elsewhere = [
        f"{module}: {words}"
        for module, tree in TREES.items()
        if not module.endswith("_compat") and module != COMPILER
        for name, words in used(tree)
        if private(name) and name not in own and words not in PUBLIC
    ]
    assert not elsewhere
