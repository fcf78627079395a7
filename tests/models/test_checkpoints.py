"""Checkpoints that aren't there, aren't whole, or aren't a model's."""

from pathlib import Path

import pytest

from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.models.checkpoints import locate as locate_model
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed


class TestCheckpoints:
    def test_a_folder_without_weights(self, tmp_path: Path) -> None:
        folder = tmp_path / "roberta-base"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        config = composed(["model=roberta_base"]).model
        with pytest.raises(ConfigError, match="has no weights"):
            locate_model(config, str(tmp_path))
        (folder / "model.safetensors").touch()
        with pytest.raises(ConfigError, match="has no weights"):
            locate_model(config, str(tmp_path))
        (folder / "model.safetensors").write_bytes(b"weights")
        with pytest.raises(ConfigError, match="has no tokenizer"):
            locate_model(config, str(tmp_path))

    def test_a_tokenizer_that_knows_no_word(self, tmp_path: Path) -> None:
        from peftbench.models.checkpoints import Checkpoint

        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ConfigError, match="tokenizer"):
            backbones.load_tokenizer(composed(["model=bert_base"]).model, Checkpoint(str(tmp_path), ""))

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="model_root=.*: there is no folder .*roberta-base"):
            locate_model(composed(["model=roberta_base"]).model, str(tmp_path))

    def test_no_hub_and_no_cache(self) -> None:
        with pytest.raises(ConfigError, match="can't be reached; or point model_root= at a folder"):
            locate_model(composed(["model=roberta_large"]).model, None)

    def test_weights_missing_outside_the_head_are_refused(self, cell, tmp_path: Path) -> None:
        """DeBERTa's pooler is new: left out of `head` it would stay at random, frozen."""
        found = cell("model.head=[elsewhere]")
        task = build_task(found.config)
        model = backbones.load_model(found.config, found.checkpoint, task)
        model.bert.save_pretrained(tmp_path / "bert")
        from peftbench.models.checkpoints import Checkpoint

        with pytest.raises(ConfigError, match="lacks weights outside model.head: classifier"):
            backbones.load_model(found.config, Checkpoint(str(tmp_path / "bert"), ""), task)
