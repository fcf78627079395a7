"""How docstrings open: with a verb, or with the noun that is returned."""

import ast

import pytest

from tests.test_layers import MODULES

KINDS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

#: Question words, prepositions, conjunctions and the like: a docstring that opens with one says what its subject is
#: about, and not what it does or gives.
OPENINGS = set(
    "what whatever whether where wherever which who whose why when how if because although though unless once and or "
    "but so then than as like about above across after against along among around at before behind below beneath "
    "beside besides between beyond by despite during except for from in inside into near of off on onto outside over "
    "per since through throughout till to toward towards under until unto up upon via while with within without there "
    "it always only".split()
)


def opening(docstring: str) -> str:
    """The first word, without marks around it, in small letters."""
    return docstring.split()[0].strip(".,:;'\"()").lower()


def docstrings(source: str) -> dict[str, str]:
    """The docstrings of a module's functions, methods and classes, by name and line."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, KINDS))
    named = ((f"{node.name}:{node.lineno}", ast.get_docstring(node)) for node in nodes)
    return {name: text for name, text in named if text}


@pytest.mark.parametrize("module", MODULES)
def test_a_docstring_opens_with_a_verb_or_a_noun(module: str) -> None:
    opened = {name: text for name, text in docstrings(MODULES[module].read_text()).items() if opening(text) in OPENINGS}
    assert opened == {}


def test_there_are_docstrings() -> None:
    assert sum(len(docstrings(file.read_text())) for file in MODULES.values()) > 2000


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [("Whether a name.", True), ("Within: a mode.", True), ("True if so.", False), ("`x`, (n,).", False)],
)
def test_an_opening_is_judged_by_its_first_word(text: str, is_refused: bool) -> None:
    source = f'class A:\n    @property\n    def b(self):\n        """{text}"""'
    assert [opening(text) in OPENINGS for text in docstrings(source).values()] == [is_refused]
