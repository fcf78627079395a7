"""What `peftbench list keys` says of every key."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import keys, paths, rules, types

GROUPS = ("recipe", "hardware", "method", "dataset", "model")
ALL = {key.name: key for key in (*keys.of_run(), *(key for group in GROUPS for key in keys.of_group(group)))}


@pytest.mark.parametrize("name", ALL)
def test_a_key_has_a_meaning(name: str) -> None:
    assert len(ALL[name].meaning) > 10
    assert ALL[name].allowed


def test_every_field_that_a_user_sets_is_listed() -> None:
    fields = {field.name for field in dataclasses.fields(types.RunConfig)}
    # An experiment's own, and what loading notes.
    assert fields - set(ALL) == {"expected", "start", "by_dataset", "changed"}
    for group in GROUPS:
        kind = next(field.type for field in dataclasses.fields(types.RunConfig) if field.name == group)
        named = {field.name for field in dataclasses.fields(kind)} - {"name", "target"}  # type: ignore[arg-type]
        assert {key.name for key in keys.of_group(group)} == {f"{group}.{name}" for name in named}


def test_a_group_may_be_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys.of_group("recipe")
    changed = dataclasses.make_dataclass("Changed", [("recipe", types.RecipeConfig | None)])
    monkeypatch.setattr(types, "RunConfig", changed)
    assert keys.of_group("recipe") == before


def test_the_keys_are_printed_as_markdown(run_cli: Any) -> None:
    status, out, _ = run_cli("list", "keys")
    assert status == 0
    assert out == keys.markdown()
    assert "| `seed` | `0` | a number at least 0 and at most 4294967295 | " in out
    for line in out.splitlines():
        assert "<" not in line.replace("&lt;", "")


def test_methods_are_printed_as_markdown(run_cli: Any) -> None:
    status, out, _ = run_cli("list", "methods", "format=markdown")
    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == paths.choices("method")
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}


def test_the_usage_names_all_that_list_takes(run_cli: Any) -> None:
    line = next(line for line in run_cli("--help")[1].splitlines() if "peftbench list [" in line)
    named = line.partition("[")[2].partition("]")[0].split("|")
    assert named == paths.listable()
    assert len(named) > 9
    for name in named:
        assert run_cli("list", name)[0] == 0


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 2**32 - 1, "a number at least 0 and at most 4294967295"),
        (1, 1e12, "a number at least 1 and at most 1000000000000"),
        (0.5, 2.25, "a number at least 0.5 and at most 2.25"),
    ],
)
def test_bounds_are_written_in_full(low: float, high: float, words: str) -> None:
    assert rules.between(low, high).allowed == words


def test_a_comment_is_that_of_the_key_below(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("# The file.\n\n# The first,\n# in two lines.\nseed: 1\nretry: 2\n\n# Lost.\n\ntune: 3\n")
    assert list(keys._comments(file)) == [("seed", "The first, in two lines."), ("retry", ""), ("tune", "")]
