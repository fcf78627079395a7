"""Where rows come from, how they are tokenised, in which order they are seen; and every way of getting that wrong."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.data import located, sources
from peftbench.data.batch import part
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.readers import reader
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed
from tests.helpers.runs import sentences, write_split


@pytest.fixture
def module(cell: Callable[..., PreparedRun], results: Path) -> Callable[..., TaskDataModule]:
    def make(*more: str) -> TaskDataModule:
        found = cell(*more)
        task = build_task(found.config)
        tokenizer = backbones.load_tokenizer(found.config.model, found.checkpoint)
        made = TaskDataModule(
            found.config,
            task,
            tokenizer,
            source=found.source,
            tokenizer_fingerprint=found.checkpoint.fingerprint,
            cache=results / "cache",
        )
        made.setup()
        return made

    return make


class TestSplits:
    def test_selection_is_carved_from_train_and_never_trained_on(self, module) -> None:
        data = module()
        trained, carved = set(data.train.rows.tolist()), set(data.slices["selection"].rows.tolist())
        assert len(carved) == 8
        assert not trained & carved
        assert trained | carved == set(range(80))

    def test_the_slices_depend_on_no_seed(self, module) -> None:
        rows = [module(f"seed={seed}", "recipe.train_samples=30").train.rows for seed in (0, 1)]
        assert torch.equal(*rows)
        assert len(rows[0]) == 30

    @pytest.mark.parametrize("selection", ["last", "best_on_validation"])
    def test_without_selection_nothing_is_carved(self, module, selection: str) -> None:
        data = module(f"recipe.selection={selection}")
        assert len(data.train) == 80
        assert data.slices["selection"] is None

    def test_fewer_evaluation_rows(self, module) -> None:
        data = module("recipe.eval_samples=5")
        assert [len(data.slices[name]) for name in ("train", "selection", "validation")] == [5, 5, 5]

    def test_an_absent_second_split_is_null(self, module) -> None:
        data = module("dataset.evaluation=[validation,validation_mismatched]")
        assert data.slices["validation_mismatched"] is None

    def test_labels_and_texts_stay_together(self, module, data_root: Path) -> None:
        data = module()
        table = pq.read_table(next((data_root / "glue" / "sst2").glob("train-*"))).to_pydict()
        tokenizer = data.tokenizer
        for i in (0, 13, 71):
            ids = data.train.tokens[data.train.offsets[i] : data.train.offsets[i + 1]]
            row = int(data.train.rows[i])
            assert tokenizer.decode(ids, skip_special_tokens=True) == table["sentence"][row][: len(ids) - 2]
            assert data.train.labels[i] == table["label"][row]

    def test_pairs_are_encoded_with_types(self, module) -> None:
        batch = module("dataset=mrpc").train.collate([0, 1])
        assert set(batch["token_type_ids"].flatten().tolist()) == {0, 1}


class TestEncoded:
    def test_a_batch_is_padded_to_its_own_longest(self, module) -> None:
        examples = module().train
        batch = examples.collate([0, 1, 2])
        lengths = examples.lengths[:3]
        assert batch["input_ids"].shape == (3, lengths.max())
        assert batch["attention_mask"].sum(1).tolist() == lengths.tolist()
        assert batch["input_ids"][0, lengths[0] :].eq(examples.pad).all()

    def test_a_part_has_no_padding_that_it_does_not_need(self, module) -> None:
        examples = module().train
        batch = examples.collate(list(range(20)))
        short = int(examples.lengths[:20].argmin())
        alone = examples.collate([short])
        found = part(batch, short, short + 1)
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[k], alone[k]) for k in alone)

    def test_truncation_is_counted(self, module) -> None:
        # The byte tokenizer gives a token a character and two more.
        data = module("recipe.max_length=20")
        texts = sentences(80, seed=80)["sentence"]
        assert data.train.truncated == sum(len(texts[row]) + 2 > 20 for row in data.train.rows)
        assert data.train.lengths.max() == 20

    def test_the_second_time_it_is_read_and_not_made(self, module, monkeypatch) -> None:
        first = module().train
        monkeypatch.setattr("peftbench.data.encode._tokenise", lambda *_: pytest.fail("tokenised again"))
        assert torch.equal(module().train.tokens, first.tokens)


class TestSources:
    @pytest.fixture
    def broken(self, data_root: Path, tmp_path: Path) -> Path:
        shutil.copytree(data_root, tmp_path / "broken")
        return tmp_path / "broken"

    @pytest.fixture
    def refused(self, broken: Path, tmp_path: Path) -> Callable[..., str]:
        def message(*more: str) -> str:
            config = composed(["model=tiny_bert", "dataset=sst2", f"results_dir={tmp_path}/r", *more])
            with pytest.raises(ConfigError) as caught:
                prepare(config)
            text = str(caught.value)
            assert "\n" not in text
            return text

        return message

    def test_a_missing_folder(self, refused, tmp_path: Path) -> None:
        assert f"data_root={tmp_path}/none" in refused(f"data_root={tmp_path}/none")

    def test_a_missing_split(self, refused, broken: Path) -> None:
        next((broken / "glue" / "sst2").glob("validation-*")).unlink()
        assert "has no validation-*.parquet (it has train-00000" in refused(f"data_root={broken}")

    @pytest.mark.parametrize("damage", ["empty", "garbage", "half", "flipped"])
    def test_a_corrupt_file(self, refused, broken: Path, damage: str) -> None:
        file = next((broken / "glue" / "sst2").glob("train-*"))
        whole = file.read_bytes()
        middle = len(whole) // 4
        flipped = whole[:middle] + bytes(b ^ 0xFF for b in whole[middle : middle + 200]) + whole[middle + 200 :]
        half = whole[: len(whole) // 2]
        file.write_bytes({"empty": b"", "garbage": b"PAR1 no", "half": half, "flipped": flipped}[damage])
        text = refused(f"data_root={broken}")
        assert str(file) in text
        assert "can't be read as Parquet" in text

    def test_an_empty_split(self, refused, broken: Path) -> None:
        table = pa.table({"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())})
        pq.write_table(table, next((broken / "glue" / "sst2").glob("validation-*")))
        assert "the split validation is empty" in refused(f"data_root={broken}")

    @pytest.mark.parametrize("label", [2, -1, None, "neutral", 1.5])
    def test_a_label_outside_the_names(self, refused, broken: Path, label: object) -> None:
        labels = [label if i == 3 else type(label)(0) if isinstance(label, float) else 0 for i in range(8)]
        if isinstance(label, str):
            labels = ["positive"] * 3 + [label] + ["negative"] * 4
        columns = {"sentence": ["a"] * 8, "label": labels}
        write_split(broken / "glue" / "sst2", "train", columns)
        text = refused(f"data_root={broken}")
        assert f"sst2/train row 3 has the label {label!r}; allowed are 0 (negative), 1 (positive)" in text

    def test_label_names_are_taken_for_their_indices(self, broken: Path, tmp_path: Path) -> None:
        columns = {"sentence": ["a"] * 30, "label": ["positive", "negative"] * 15}
        write_split(broken / "glue" / "sst2", "train", columns)
        config = composed(["model=tiny_bert", "dataset=sst2", f"results_dir={tmp_path}/r", f"data_root={broken}"])
        source = prepare(config).source
        table = sources.read(source, "train", ["sentence", "label"])
        examples = reader(config.dataset).examples(table, np.arange(30))
        assert [example.label for example in examples] == [1, 0] * 15

    def test_rows_with_an_answer_are_those_of_the_column_that_holds_it(self, tmp_path: Path) -> None:
        columns = {"triples": ["a", "b", "c"], "few": ["x", "", ""], "all": ["x", "y", "z"]}
        for split in ("train", "test"):
            write_split(tmp_path / "web_nlg", split, columns)
        data = composed(["model=tiny_llama", "dataset=web_nlg"]).dataset
        for name, count in (("few", 1), ("all", 3)):
            asked = dataclasses.replace(data, path="mine/web_nlg", columns={"texts": name}, files=None, revision=None)
            source = sources.locate(asked, data_root=str(tmp_path), cache=tmp_path / "cache")
            assert sources.count(source, "test") == count

    def test_a_column_that_is_not_there(self, refused, data_root: Path) -> None:
        text = refused(f"data_root={data_root}", "dataset.text=[headline]")
        assert "dataset.text=headline: sst2/train has no such column; it has sentence, label, idx" in text

    def test_a_column_that_is_no_text(self, refused, data_root: Path) -> None:
        assert "holds int64, not text" in refused(f"data_root={data_root}", "dataset.text=[idx]")

    def test_a_row_without_text(self, refused, broken: Path) -> None:
        columns = {"sentence": ["a", None, "b"], "label": [0, 1, 0]}
        write_split(broken / "glue" / "sst2", "train", columns)
        assert "sst2/train row 1 has no text" in refused(f"data_root={broken}")

    def test_no_network_and_no_cache(self, refused) -> None:
        text = refused()
        assert "can't be reached" in text
        assert "data_root=" in text
        assert "dataset=demo" in text

    def test_a_generator_that_is_not_there(self, refused) -> None:
        assert "dataset.generator=" in refused("dataset=demo", "dataset.generator=peftbench.nowhere")

    def test_an_unpinned_source_is_followed_when_it_changes(self, broken: Path, tmp_path: Path) -> None:
        folder = broken / "glue" / "sst2"
        overrides = [f"dataset.path={folder}", "dataset.config=null", "dataset.revision=null"]
        config = composed(["model=tiny_bert", "dataset=sst2", f"results_dir={tmp_path}/r", *overrides])
        before = prepare(config)
        write_split(folder, "train", sentences(60, seed=9))
        located._PREPARED.clear()  # A further command asks again.
        after = prepare(config)
        assert sources.read(after.source, "train", ["label"]).num_rows == 60
        assert before.key != after.key

    def test_a_folder_in_the_place_of_a_name(self, data_root: Path, tmp_path: Path) -> None:
        """`dataset.path` may be a folder, of which the contents identify a run."""
        folder = data_root / "glue" / "sst2"
        overrides = [f"dataset.path={folder}", "dataset.config=null", "dataset.revision=null"]
        config = composed(["model=tiny_bert", "dataset=sst2", f"results_dir={tmp_path}/r", *overrides])
        source = prepare(config).source
        assert sources.read(source, "train", ["sentence"]).num_rows == 80
        assert prepare(config).key == prepare(config).key

    def test_the_fingerprint_follows_the_bytes(self, broken: Path, tmp_path: Path) -> None:
        config = composed(["model=tiny_bert", "dataset=sst2", f"results_dir={tmp_path}/r", f"data_root={broken}"])
        before = prepare(config)
        write_split(broken / "glue" / "sst2", "train", sentences(80, seed=5))
        after = prepare(config)
        assert before.key != after.key
