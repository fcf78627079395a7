"""Marked words of span pairs, from a data set's columns to token ids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.data.examples import Example
from peftbench.data.readers import reader
from peftbench.errors import ConfigError
from tests.helpers import hub_sets
from tests.helpers.built import Built


class TestMarks:
    def test_words_are_marked_where_they_are(self, made) -> None:
        case = made("dataset=wsc")
        table = pa.Table.from_pylist(
            [
                {
                    "text": "The old man met Bob, for he was late.",
                    "span1_index": 0, "span1_text": "the old man", "span2_index": 6, "span2_text": "He", "label": 1,
                }
            ]
        )  # fmt: skip
        example = reader(case.config.dataset).examples(table, np.array([0]))[0]
        assert example.fields["text"] == "* The old man * met Bob, for # he # was late."
        start, end = example.must_stay["text"]
        assert example.fields["text"][start:end] == "* The old man * met Bob, for # he #"
        assert (example.fields["span1"], example.fields["span2"]) == ("The old man", "he")

    @pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_t5"])
    def test_a_cut_leaves_the_marked_word(self, made, model: str) -> None:
        case = Built(made("dataset=wic", "method=full", f"model={model}"))
        text = "before it all " * 9 + "* people *" + " after it was all over" * 9
        must_stay = {"sentence1": (text.index("*"), text.rindex("*") + 1), "sentence2": (0, 15)}
        example = Example(
            0, {"sentence1": text, "sentence2": "some * people *", "span1": "", "span2": ""}, 0, must_stay=must_stay
        )
        encoded = case.task.encode(case.context.tokenizer, [example], 60)
        written = case.context.tokenizer.decode(encoded.input_ids[0])
        assert len(encoded.input_ids[0]) <= 60
        assert encoded.cut == 1
        assert "* people *" in written
        assert "some * people *" in written

    def test_a_word_that_is_not_there_is_named(self, made, hub_root: Path, tmp_path: Path) -> None:
        hub_sets.write(tmp_path, {"train": 12, "validation": 12}, folder="super_glue", config="wic")
        file = next((tmp_path / "super_glue" / "wic").glob("train-*"))
        table = pq.read_table(file)
        ends = pa.array([6] * 11 + [60], pa.int32())
        pq.write_table(table.set_column(table.column_names.index("end1"), "end1", ends), file)
        with pytest.raises(ConfigError, match="dataset.spans: wic/train row 11: no such word in sentence1"):
            made("dataset=wic", f"data_root={tmp_path}")
