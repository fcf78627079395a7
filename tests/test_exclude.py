"""`exclude` compares values, whatever they are written like; a condition without effect is a mistake."""

from pathlib import Path

import pytest

from peftbench import compose
from peftbench.errors import ConfigError

TWO = ["model=tiny_bert", "dataset=demo"]


@pytest.mark.parametrize(
    ("swept", "condition"),
    [
        ("method=lora,prefix", "method.mergeable=false"),
        ("method=lora,prefix", "method.mergeable=FALSE"),
        ("method.lr=0.0001,0.001", "method.lr=1e-4"),
        ("method.lr=1e-4,1e-3", "method.lr=0.00010"),
        ("method.lr=1e-4,1e-3", "method.lr=1E-4"),
        ("recipe.train_samples=1000,2000", "recipe.train_samples=1e3"),
        ("recipe.train_samples=null,2000", "recipe.train_samples=null"),
        ("recipe.max_steps=100,2000", "recipe.max_steps=1*"),
        ("method.adapter.target_modules=[query],[query,value]", "method.adapter.target_modules=[query, value]"),
        ("method.adapter.target_modules=[query],[query,value]", "method.adapter.target_modules=[query,v*]"),
        ("method.adapter.target_modules=[query],[query,value]", "method.adapter.target_modules=['query','value']"),
        ("dataset.rows={test: 2, train: 4}",),
        ("recipe=default,fewshot", "recipe=fewshot"),
        ("dataset=demo,sst2", "dataset=dem[no]"),
        ("method=lora,full", "method.adapter.r=8"),
    ],
)
def test_a_value_is_met_however_it_is_written(swept: str, condition: str) -> None:
    assert len(compose.plan([*TWO, swept], multirun=True).cells) == 2
    plan = compose.plan([*TWO, swept, f'exclude=["{condition}"]'], multirun=True)
    assert (len(plan.cells), plan.excluded) == (1, 1)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("method=ful", "'method=ful' meets no run of this command line; method is lora, full"),
        ("method=lora seed=7", "method is lora, full; seed is 0"),
        ("method.mergeable=false", "method.mergeable is true"),
        ("method.lr=1e-9", "meets no run"),
        ("seed='0x'", "seed is 0"),
    ],
)
def test_a_condition_without_effect_is_a_mistake(condition: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.plan([*TWO, "method=lora,full", f'exclude=["{condition}"]'], multirun=True)
    assert said in str(error.value)


def test_a_part_of_a_prepared_sweep_may_lack_what_the_sweep_excludes(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {method: 'lora,full', seed: '0,1'}}}\n"
        "exclude: [method=full seed=1]\n"
    )
    assert len(compose.plan(["sweep=mine"], multirun=False, config_dirs=[tmp_path]).cells) == 3
    assert len(compose.plan(["sweep=mine", "seed=0"], multirun=False, config_dirs=[tmp_path]).cells) == 2
    with pytest.raises(ConfigError, match="meets no run"):
        compose.plan(["sweep=mine", "exclude=['seed=3']"], multirun=False, config_dirs=[tmp_path])
