"""Which runs are asked what was forgotten: their keys, and what can't be asked."""

import importlib.util
from pathlib import Path

import pytest

from peftbench.config import compose, identity, loading, paths
from peftbench.data.forgetting import check as check_benchmarks
from peftbench.data.forgetting import locate as locate_benchmarks
from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.key import run_key
from tests.helpers.asked import BOTH, MMLU

pytest.importorskip("lm_eval")


def test_only_runs_that_ask_have_another_key(composed) -> None:
    keys = {run_key(composed(*more), data="d", model="m") for more in ([], MMLU, BOTH)}
    assert len(keys) == 3
    assert "forgetting" not in identity.identity(composed())
    assert run_key(composed("forgetting=none"), data="d", model="m") in keys
    again = loading.from_description(identity.description(composed(*BOTH)))
    assert again.forgetting == composed(*BOTH).forgetting


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["formulation=head"], ConfigError, "formulation=head replaces the language model's head"),
        (["model=tiny_bert"], NotApplicable, "asks decoders; model=tiny_bert is an encoder"),
        (["model=tiny_t5"], NotApplicable, "model=tiny_t5 is an encoder_decoder"),
        (["method=p_tuning_template"], NotApplicable, "method=p_tuning_template puts vectors before an answer"),
    ],
)
def test_what_cannot_be_asked_is_refused(composed, more, error, message) -> None:
    from peftbench.config import formulations

    config = composed(*MMLU, *more)
    with pytest.raises(error, match=message):
        check_benchmarks(config, formulations.formulation(config))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["forgetting.mmlu.parts=[anatomi]"], "forgetting.mmlu.parts: test has no anatomi; nearest: anatomy"),
        (["forgetting.mmlu.columns=[qestion]"], "forgetting.mmlu: anatomy/test can't be read"),
        (["forgetting.mmlu.splits=[nowhere]"], "nowhere-.*parquet for forgetting.mmlu"),
        (["forgetting.mmlu.examples=0"], "forgetting.mmlu.examples=0: allowed is a number at least 1"),
        (["forgetting.mmlu.folder=../x"], "forgetting.mmlu.folder=../x: allowed is a folder's name"),
        (["forgetting=nothing"], "forgetting=nothing: no such forgetting; .*allowed: "),
        (["data_root=null"], "forgetting.mmlu: can't get cais/mmlu all: "),
    ],
)
def test_wrong_questions_are_one_line_before_training(composed, more, message) -> None:
    with pytest.raises(ConfigError, match=message):
        locate_benchmarks(composed(*MMLU, *more))


def test_without_the_extra_it_is_named(composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'forgetting \(mmlu\): needs lm-eval: pip install "peftbench\[lm_eval\]"'):
        locate_benchmarks(composed(*MMLU))


@pytest.mark.parametrize("name", paths.choices("forgetting"))
def test_every_part_is_a_task_of_lm_eval(name: str) -> None:
    import lm_eval

    asked = compose.one([f"forgetting={name}"]).forgetting or {}
    assert (name == "none") == (not asked)
    for benchmark in asked.values():
        folder = Path(lm_eval.__file__).parent / "tasks" / benchmark.folder
        known = [line for file in folder.glob("*.yaml") for line in file.read_text().splitlines()]
        named = {line.split(":")[1].strip().strip('"') for line in known if line.strip('"').startswith("task")}
        assert {benchmark.task.replace("{part}", part) for part in benchmark.parts} <= named
