"""Perturbations keep what the label rests on, and are the same whoever asks."""

import random
import re

import pytest

from peftbench.config.evaluation import PERTURBATIONS
from peftbench.data import perturbations
from peftbench.data.examples import Example
from peftbench.data.perturbations import CONTRACTIONS, case, contractions, perturb, typos

TEXT = "It is not a good film, and I'm sure they are never told why the actors cannot act: 1234 cafés aren't it."


def test_every_name_has_a_perturbation() -> None:
    assert set(perturbations._ALL) == set(PERTURBATIONS)


def test_typos_leave_short_words_ends_and_the_number_of_words() -> None:
    changed = 0
    for seed in range(200):
        out = typos(TEXT, random.Random(seed))
        pairs = list(zip(TEXT.split(), out.split(), strict=True))
        changed += sum(a != b for a, b in pairs)
        for before, after in pairs:
            letters = re.sub(r"\W", "", before)
            assert before == after or len(letters) >= 4
            assert (before[0], before[-1]) == (after[0], after[-1])
            assert abs(len(before) - len(after)) <= 1
            if before != after and len(before) == len(after):
                differ = [i for i in range(len(before)) if before[i] != after[i]]
                assert len(differ) == 1 or [before[i] for i in differ] == [after[i] for i in differ[::-1]]
        assert "1234" in out
        assert "cafés" in out
    words = len(re.findall(r"\b[A-Za-z]{4,}\b", TEXT)) * 200
    assert 0.14 < changed / words < 0.2, "a fifth, less swaps of two equal letters"


def test_case_changes_case_alone_and_does_both() -> None:
    assert {case(TEXT, random.Random(seed)) for seed in range(20)} == {TEXT.lower(), TEXT.upper()}


@pytest.mark.parametrize(("full", "short"), CONTRACTIONS)
def test_both_ways(full: str, short: str) -> None:
    draw = random.Random(0)
    for before, after in ((full, short), (short, full)):
        for text, expected in ((before, after), (before.capitalize(), after.capitalize())):
            changed = contractions(f"so, {text} here", draw)
            assert changed.casefold() == f"so, {expected} here".casefold()
            assert changed[4].isupper() == (text[0].isupper() or full.startswith("i "))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("It's fine, he'd know.", "It's fine, he'd know."),
        ("this is n't it", "this is not it"),
        ("you do\N{RIGHT SINGLE QUOTATION MARK}t, you don\N{RIGHT SINGLE QUOTATION MARK}t", None),
        ("that is who they are", "that is who they are"),
        ("They are not here", "They aren't here"),
        ("I am here and i'm there", "I'm here and I am there"),
        ("DO NOT GO", "DON'T GO"),
        ("the thesis nothing", "the thesis nothing"),
        ("", ""),
    ],
)
def test_contractions_say_the_same(text: str, changed: str | None) -> None:
    result = contractions(text, random.Random(0))
    if changed is None:
        assert result.endswith("you do not")
    else:
        assert result in (changed, changed.replace("They aren't", "They're not"))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_example_keeps_its_label_and_its_marked_words(name: str) -> None:
    text = f"{TEXT} * banking * {TEXT}"
    start = text.index("* banking *")
    example = Example(7, {"text": text, "answer": TEXT}, 1, must_stay={"text": (start, start + 11)}, references=["x"])
    changed = perturb(example, ["text"], name, 0)
    assert changed.fields["text"] != text
    assert changed.fields["text"][slice(*changed.must_stay["text"])] == "* banking *"
    assert changed.fields["answer"] == TEXT
    assert (changed.row, changed.label, changed.references) == (7, 1, ["x"])
    assert perturb(example, ["text"], name, 0) == changed


def test_rows_and_seeds_have_draws_of_their_own() -> None:
    texts = {
        perturb(Example(row, {"text": TEXT}), ["text"], "typos", s).fields["text"] for row in (0, 1) for s in (0, 1)
    }
    assert len(texts) == 4
