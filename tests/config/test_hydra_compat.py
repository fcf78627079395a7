"""What leans on Hydra's private API fails here first, and by name, when Hydra changes."""

import inspect
from pathlib import Path

import hydra
import pytest
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from peftbench.config import hydra_compat, paths

AGAIN = f"Hydra is {hydra.__version__}, config/hydra_compat.py was written for {hydra_compat.VERSION}: read it again"


def test_hydra_is_of_the_version_that_its_private_uses_were_written_for() -> None:
    assert hydra.__version__.startswith(f"{hydra_compat.VERSION}."), AGAIN


@pytest.mark.parametrize(("kind", "names"), hydra_compat.USED, ids=lambda part: getattr(part, "__name__", None))
def test_private_names_are_there(kind: type, names: tuple[str, ...]) -> None:
    for name in names:
        assert callable(getattr(kind, name, None)), f"{kind.__name__}.{name} is gone. {AGAIN}"


def test_a_repository_is_read_as_it_is_built_today() -> None:
    """`_ReadOnce` reads these attributes of Hydra's repository and sources."""
    cache = hydra_compat._ReadOnce(ConfigRepository, str)  # type: ignore[arg-type]
    assert cache.cache == {}, AGAIN
    assert cache.delegate is ConfigRepository, AGAIN
    assert list(inspect.signature(ConfigRepository._find_object_source).parameters)[1:] == [
        "config_path",
        "object_type",
    ]
    assert FileConfigSource("test", f"file://{paths.CONF}")._normalize_file_name("config") == "config.yaml", AGAIN


def test_an_override_is_split_by_its_values() -> None:
    (override,) = OverridesParser.create().parse_overrides(["seed=0,1"])
    assert hydra_compat.values(override) == ["seed=0", "seed=1"], AGAIN


def test_a_child_is_had_as_it_is_written() -> None:
    child = hydra_compat.unresolved(OmegaConf.create({"a": "${nowhere}"}), "a")
    assert child._value() == "${nowhere}", AGAIN


def test_a_callback_is_added() -> None:
    extra = Callback()
    assert hydra_compat.with_callback(OmegaConf.create({"hydra": {"callbacks": {}}}), extra).callbacks == [extra], AGAIN


def test_the_sweeper_is_the_one_that_a_configuration_names() -> None:
    assert hydra_compat.SWEEPER == "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", AGAIN


def test_nothing_else_uses_hydras_private_api() -> None:
    files = [file for file in paths.PACKAGE.rglob("*.py") if "hydra._internal" in file.read_text(encoding="utf-8")]
    assert files == [Path(hydra_compat.__file__)]
