"""What `export` writes answers as the run did, in plain transformers and peft: for a method of every family."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from peftbench.errors import NotApplicable
from tests.helpers import tiny_checkpoints
from tests.helpers.exported import FAMILIES, NOT_MERGED, OWN, Exporter, candidates, loaded

LENGTH = 48
#: With a head, an encoder-decoder takes no virtual tokens, which leaves additive methods that are our own tuners.
OWN_ON = {("additive", "tiny_t5")}


def pairs() -> Iterator[tuple[str, str]]:
    """Every family with a tiny model of every architecture."""
    return itertools.product(FAMILIES, tiny_checkpoints.STANDS_FOR)


def own(family: str, tiny: str) -> bool:
    return family in OWN or (family, tiny) in OWN_ON


def cases(names: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The encoder's in the default run; each is a family, a tiny model and whatever follows."""
    return [pytest.param(*one, marks=[] if one[1] == "tiny_bert" else pytest.mark.slow) for one in names]


def test_families_that_are_not_merged_have_no_method_that_could_be() -> None:
    assert set(NOT_MERGED) == {family for family in FAMILIES if not list(candidates(family, merged=True))}


@pytest.mark.parametrize(("family", "tiny"), cases(one for one in pairs() if own(*one)))
def test_tuners_of_our_own_are_refused(exporter: Exporter, family: str, tiny: str) -> None:
    with pytest.raises(NotApplicable, match="is a tuner of peftbench, which plain peft doesn't know"):
        exporter.first(family, tiny, formulation="head", merged=False)


@pytest.mark.parametrize(
    ("family", "tiny", "merged"),
    cases(
        (family, tiny, merged)
        for family, tiny in pairs()
        for merged in (False, True)
        if not (family in NOT_MERGED if merged else own(family, tiny))
    ),
)
def test_what_is_exported_answers_as_the_run_did(exporter: Exporter, family: str, tiny: str, merged: bool) -> None:
    method, folder, rows = exporter.first(family, tiny, formulation="head", merged=merged)
    model, tokenizer = loaded(folder, exporter.base(tiny, "head")), AutoTokenizer.from_pretrained(folder)
    texts = exporter.texts()
    assert len(rows) == len(texts)
    with torch.inference_mode():
        encoded = [tokenizer(texts[i], truncation=True, max_length=LENGTH, return_tensors="pt") for i in rows["row"]]
        scores = [model(**one).logits[0].numpy() for one in encoded]
    assert np.allclose(scores, np.stack(rows["scores"]), atol=1e-4), method
    assert [int(np.argmax(one)) for one in scores] == list(rows["answer"])
