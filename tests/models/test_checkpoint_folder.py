"""A model from a folder of one's own, by `model.checkpoint=<folder>`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.errors import ConfigError
from peftbench.models import checkpoints
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from tests.helpers.built import checkpoint
from tests.helpers.composed import composed


@pytest.fixture
def own(cell: Callable[..., PreparedRun], tmp_path: Path) -> Path:
    """A checkpoint of a Bert."""
    folder = tmp_path / "mine" / "my-bert"
    checkpoint(cell("method=full", "model=tiny_bert"), folder)
    return folder


def test_its_contents_identify_a_run_and_not_its_path(own: Path, cell, tmp_path: Path) -> None:
    first = cell("model=bert_base", f"model.checkpoint={own}")
    assert first.checkpoint.folder == str(own)
    model = first.config.model
    assert (model.checkpoint, model.revision, model.package) == ("my-bert", None, None)
    assert first.config.changed == ["model.checkpoint=my-bert"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    own.rename(other / own.name)
    assert cell("model=bert_base", f"model.checkpoint={other / own.name}").key == first.key
    (other / own.name / "vocab.txt").write_text("another")
    assert cell("model=bert_base", f"model.checkpoint={other / own.name}").key != first.key


def test_a_relative_path_is_one(own: Path, cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    for written in ("my-bert", "./my-bert"):
        assert cell("model=bert_base", f"model.checkpoint={written}").checkpoint.folder == str(own)
    monkeypatch.setenv("HOME", str(own.parent))
    assert cell("model=bert_base", "model.checkpoint='~/my-bert'").checkpoint.folder == str(own)


def test_it_goes_before_the_weights_of_the_models_package(own: Path, cell) -> None:
    """Those are another checkpoint's."""
    assert cell("model=minilm", f"model.checkpoint={own}").checkpoint.folder == str(own)
    named = composed(["model=minilm", "model.checkpoint=other/name"]).model
    assert (named.checkpoint, named.package, named.revision) == ("other/name", None, None)
    pinned = composed(["model=minilm", "model.checkpoint=other/name", "model.revision=abc"]).model
    assert pinned.revision == "abc"
    assert composed(["model=minilm"]).model.package


def test_a_folder_of_a_hubs_name_is_not_taken_for_what_a_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bert-base-uncased").mkdir()
    monkeypatch.chdir(tmp_path)
    model = composed(["model=bert_base"]).model
    assert (model.folder, model.revision is None) == (None, False)


@pytest.mark.parametrize("written", ["/nowhere/at/all", "./nowhere", "'~nobody-at-all/x'"])
def test_a_folder_that_is_not_there_is_one_line(written: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.checkpoint=.*there is no such"):
        composed(["model=bert_base", f"model.checkpoint={written}"])


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    model = composed(["model=bert_base", f"model.checkpoint={tmp_path}"]).model
    with pytest.raises(ConfigError, match=r"model\.checkpoint: .* has no config\.json"):
        checkpoints.locate(model, None)


def test_a_run_of_it_has_no_path_in_its_record(own: Path, run_cli, tiny, results: Path) -> None:
    words = [word for word in tiny("method=lora", "recipe.max_steps=2", "measure=false") if word != "model=tiny_bert"]
    status, out, err = run_cli(*words, "model=bert_base", f"model.checkpoint={own}")
    assert status == 0, out + err
    ((file, record),) = ResultStore(results).scan()
    assert isinstance(record, RunRecord)
    assert record.config["model"]["checkpoint"] == "my-bert"
    assert str(own.parent) not in file.read_text()
    assert "(0 now, 1 before)" in run_cli(*words, "model=bert_base", f"model.checkpoint={own}")[1]
    texts = results.parent / "texts.csv"
    texts.write_text("sentence\nit was superb\n")
    status, out, err = run_cli("predict", str(file), str(texts), f"model_root={own.parent}")
    assert status == 0, err
    assert out.startswith("sentence,label,probability\nit was superb,")
