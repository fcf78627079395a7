"""Methods that train nothing: what data they need, and what is said of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import get_class

from peftbench.config.hosted import HOSTED
from peftbench.errors import NotApplicable
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from tests.helpers.composed import composed, written
from tests.helpers.runs import TINY, sentences, write_split


@pytest.fixture
def validation_only(tmp_path: Path) -> str:
    write_split(tmp_path / "data" / "glue" / "sst2", "validation", sentences(40, seed=40))
    return f"data_root={tmp_path / 'data'}"


def test_zero_shot_needs_no_training_split_and_leaves_the_others_their_reason(
    run_cli: Callable[..., tuple[int, str, str]], results: Path, validation_only: str
) -> None:
    line = [*TINY, validation_only, f"results_dir={results}"]
    status, out, err = run_cli(*line, "method=lora,zero_shot,majority", "-m")
    assert status == 0, (out, err)
    assert "1 completed (1 now, 0 before), 0 failed" in out
    for method in ("lora", "majority"):
        assert (
            f"not applicable: method={method} on dataset=sst2: dataset.train=train: the data has no such split" in out
        )
    (record,) = (record for _, record in ResultStore(results).scan())
    assert isinstance(record, RunRecord)
    assert record.score == record.metrics["validation"]["score"]
    assert record.metrics["train"] is None
    assert record.samples["train"] == 0
    assert not [note for note in record.footnotes if "train" in note]

    status, _, err = run_cli(*line, "method=lora")
    assert (status, len(err.strip().splitlines())) == (2, 1)


def test_a_set_that_is_trained_on_another_can_be_asked_alone(tmp_path: Path) -> None:
    columns = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 1], "idx": [0, 1]}
    write_split(tmp_path / "glue" / "ax", "test", columns)
    line = ["dataset=ax", "model=tiny_bert", f"data_root={tmp_path}", f"results_dir={tmp_path / 'r'}"]
    assert list(prepare(composed(["method=zero_shot", *line])).source.files) == ["test"]
    with pytest.raises(NotApplicable, match="dataset.train="):
        prepare(composed(["method=lora", *line]))


@pytest.mark.parametrize(
    "name", [name for name, file in written("method").items() if file["lr"] is None and file["supports"] != [HOSTED]]
)
def test_nothing_is_said_of_training_where_nothing_is_trained(train: Callable[..., RunRecord], name: str) -> None:
    assert get_class(written("method")[name]["_target_"]).trains is False
    record = train(f"method={name}", "recipe.train_samples=10", "recipe.selection=best_on_validation")
    said = " ".join(record.footnotes)
    assert "trained on" not in said
    assert "the step was chosen" not in said
    reads = written("method")[name].get("reads_train") is not False
    assert (f"{name} looked at 10 of 80 rows of train" in said) is reads
    assert "trained on 10 of 80 rows" in " ".join(train("method=linear_probe", "recipe.train_samples=10").footnotes)
