"""What `export` writes answers as the run did, in plain transformers and peft: for a method of every family."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.store import ResultStore
from peftbench.run import export
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.reloading import reload
from peftbench.run.run import run
from peftbench.run.verify import problem_with
from tests.helpers import tiny_checkpoints
from tests.helpers.composed import composed, written
from tests.helpers.runs import NOT_HERE, TINY

LENGTH = 48
FAMILIES = sorted({file["family"] for file in written("method").values()})
#: Families without a method that can be folded into the base's weights, and why.
NOT_MERGED = {
    "additive": "what is added isn't linear, or stands before the texts",
    "compression": "the student is a model of its own already",
    "full": "the model is whole already",
    "hybrid": "a part of each is additive",
}
#: Families whose methods are all this project's own tuners: `export` says so, and leaves nothing.
OWN = {"baseline", "hybrid"}
#: With a head, an encoder-decoder takes no virtual tokens, which leaves additive methods that are our own tuners.
OWN_ON = {("additive", "tiny_t5")}
#: Methods whose answer depends on the batch that a text is padded in, so that no other program's need be the same.
OF_A_BATCH = {"lily": "mixes its experts by the mean over all positions, those of padding too"}


def candidates(family: str, *, merged: bool) -> Iterator[str]:
    """The methods of a family that may be exported so, by their files; those that read finished runs left out."""
    for name, file in sorted(written("method").items()):
        if file["family"] != family or file.get("inputs") or file["lr"] is None or name in {**NOT_HERE, **OF_A_BATCH}:
            continue
        if not merged or file.get("mergeable"):
            yield name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def exported(models: Path, data_root: Path, tmp_path: Path) -> Callable[..., tuple[str, Path, Any]]:
    """The first method of a family that can be exported so: its name, the folder, the run's predictions."""

    def attempt(method: str, tiny: str, merged: bool) -> tuple[Path, Any]:
        words = [*TINY[1:], *tiny_checkpoints.make(models, data_root, tiny), "formulation=head", "measure=false"]
        words += [
            f"method={method}",
            "recipe.max_steps=3",
            f"data_root={data_root}",
            f"results_dir={tmp_path / method}",
        ]
        prepared = prepare(composed(words))
        if (problem := problem_with(prepared.config, prepared.checkpoint)) is not None:
            raise NotApplicable(str(problem))
        store = ResultStore(tmp_path / method)
        places = store.places(prepared.config, prepared.key)
        record = run(RunContext(prepared, places, [], lambda event: None))
        assert record is not None
        store.put(prepared.config, record)
        file = store.record_file(prepared.config, prepared.key)
        reloaded = reload(file, model_root=str(models), merged=merged)
        export.check(reloaded, merged=merged)
        folder = tmp_path / "exported"
        folder.mkdir()
        export.fill(reloaded, folder)
        return folder, pq.read_table(places.predictions).to_pandas().query("split == 'validation'")

    def first(family: str, tiny: str, merged: bool) -> tuple[str, Path, Any]:
        problems = []
        for method in candidates(family, merged=merged):
            try:
                return method, *attempt(method, tiny, merged)
            except ConfigError as error:
                problems.append(f"{method}: {error}")
        raise NotApplicable(f"{family}: {problems}")

    return first


def loaded(folder: Path, base: Path) -> Any:
    """The model, without this package."""
    if not (folder / "adapter_config.json").exists():
        return AutoModelForSequenceClassification.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder / "base")
    return PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, config=config), folder)


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
def test_tuners_of_our_own_are_refused(exported: Callable, family: str, tiny: str) -> None:
    with pytest.raises(NotApplicable, match="is a tuner of peftbench, which plain peft doesn't know"):
        exported(family, tiny, False)


@pytest.mark.parametrize(
    ("family", "tiny", "merged"),
    cases(
        (family, tiny, merged)
        for family, tiny in pairs()
        for merged in (False, True)
        if not (family in NOT_MERGED if merged else own(family, tiny))
    ),
)
def test_what_is_exported_answers_as_the_run_did(
    exported: Callable, models: Path, data_root: Path, family: str, tiny: str, merged: bool
) -> None:
    method, folder, rows = exported(family, tiny, merged)
    base = models / Path(written("model")[tiny_checkpoints.STANDS_FOR[tiny]]["checkpoint"]).name
    model, tokenizer = loaded(folder, base).eval(), AutoTokenizer.from_pretrained(folder)
    texts = pq.read_table(next((data_root / "glue" / "sst2").glob("validation*"))).column("sentence").to_pylist()
    assert len(rows) == len(texts)
    with torch.inference_mode():
        encoded = [tokenizer(texts[i], truncation=True, max_length=LENGTH, return_tensors="pt") for i in rows["row"]]
        scores = [model(**one).logits[0].numpy() for one in encoded]
    assert np.allclose(scores, np.stack(rows["scores"]), atol=1e-4), method
    assert [int(np.argmax(one)) for one in scores] == list(rows["answer"])
