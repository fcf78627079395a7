"""What `export` writes answers as the run did, in plain transformers and peft: for a method of every family."""

from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize(
    "tiny",
    [pytest.param(tiny, marks=[] if tiny == "tiny_bert" else pytest.mark.slow) for tiny in tiny_checkpoints.STANDS_FOR],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_exported_answers_as_the_run_did(
    exported: Callable, models: Path, data_root: Path, family: str, tiny: str, merged: bool
) -> None:
    if merged and family in NOT_MERGED:
        assert not list(candidates(family, merged=True))
        pytest.skip(NOT_MERGED[family])
    if not merged and (family in OWN or (family, tiny) in OWN_ON):
        with pytest.raises(NotApplicable, match="is a tuner of peftbench, which plain peft doesn't know"):
            exported(family, tiny, merged)
        pytest.skip("its methods are tuners of this project's own")
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
