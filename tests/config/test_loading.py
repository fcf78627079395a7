"""A recorded run's configuration is read back, whatever sinks there are today."""

import json
from dataclasses import dataclass

import pytest

from peftbench.config import identity, loading
from peftbench.config.fields import sink
from peftbench.config.types import HardwareConfig, RunConfig
from tests.helpers.composed import composed


@dataclass(kw_only=True)
class NewerHardware(HardwareConfig):
    nickname: str = sink()


@dataclass(kw_only=True)
class NewerConfig(RunConfig):
    """With required sinks that no record of today has."""

    hardware: NewerHardware
    archive: str = sink()
    mirror: str | None = sink()
    keep: bool = sink()
    often: float = sink()
    many: int = sink()
    tags: list[str] = sink()
    options: dict[str, int] = sink()


def test_a_new_required_sink_keeps_old_records_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    described = json.loads(json.dumps(identity.description(composed(["model=tiny_bert", "seed=3"]))))
    monkeypatch.setattr(loading, "RunConfig", NewerConfig)
    config = loading.from_description(described)
    assert isinstance(config, NewerConfig)
    assert config.hardware.nickname == config.archive == ""
    assert config.mirror is None
    assert (config.keep, config.often, config.many, config.tags, config.options) == (False, 0.0, 0, [], {})
    assert config.seed == 3
    monkeypatch.undo()
    again = loading.from_description(described)
    assert identity.description(again) == described
    assert (again.results_dir, again.data_root, again.save_adapters, again.logger) == ("", None, False, {})
