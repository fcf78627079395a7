"""The command that makes a cell's runs again."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from peftbench.config import identity
from peftbench.results.records import RunRecord
from peftbench.results.report.page.again import command
from tests.helpers.boards import made
from tests.helpers.composed import composed

CASES = {
    "as it is": [],
    "another method": ["method=bitfit", "dataset=sst2"],
    "changed": ["method=lora", "method.adapter.r=2", "method.lr=0.003", "dataset=rte"],
    "recipe": ["recipe.train_samples=500", "recipe.epochs=1", "recipe.eval_steps=7", "recipe.selection=last"],
    "few shots": ["recipe=fewshot", "recipe.shots=4"],
    "optimiser": ["recipe.optimizer.betas=[0.8,0.99]", "+recipe.optimizer.amsgrad=true", "recipe.weight_decay=0"],
    "machine": ["hardware=cpu_bf16", "hardware.threads=1", "hardware.micro_batch_size=4"],
    "formulation": ["model=tiny_llama", "formulation=verbaliser", "dataset=sst2"],
    "data": ["dataset=sst2", "dataset.carve.fraction=0.2", "dataset.template='It is {sentence}: {answer}, no?'"],
    "carved": ["dataset=samsum", "model=tiny_llama", "dataset.carve.seed=3"],
    "beside": ["dataset=sst2", "dataset.also=[f1,f1_macro]", "recipe.patience=2", "recipe.class_weights=balanced"],
    "halving": ["method=lora", "tune=4", "tune_halving={examples: 64, factor: 2}"],
    "space": ["method=lora", "tune=4", "tune_space={recipe.epochs: [1, 2], method.head_lr: [0.001, 0.01]}"],
    "mixture": ["dataset=mixture", "dataset.parts=[rte,sst2]", "dataset.mixing=temperature", "dataset.temperature=2"],
    "written mixture": [
        *("model=tiny_llama", "dataset=mixture", "dataset.parts=[sst2,rte]", "formulation=text"),
        *("dataset.held_out=[cola]", "dataset.held_out_shots=[0,2]", "dataset.cap=50"),
    ],
    "beyond the score": ["evaluation=helm", "evaluation.perturbations=[case]"],
    "asked": ["model=tiny_llama", "formulation=verbaliser", "forgetting=mmlu", "forgetting.mmlu.parts=[virology]"],
    "asked a little": ["model=tiny_llama", "formulation=verbaliser", "forgetting=quick", "forgetting.bbh.examples=3"],
    "tuned": ["method=lora", "tune=4", "seed=3"],
}


def of(overrides: list[str], **fields: object) -> RunRecord:
    config = composed(overrides)
    return RunRecord(key="", status="completed", config=identity.description(config), changed=config.changed, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_the_command_means_the_same_run(case: str) -> None:
    record = of(CASES[case], score=0.5)
    words = shlex.split(command([record]))
    assert words[:3] == ["python", "-m", "peftbench"]
    assert identity.description(composed(words[3:])) == record.config
    assert len(words) < 16, "only what differs from the files is spelt out"


def test_tasks_of_lm_eval_are_named() -> None:
    pytest.importorskip("lm_eval")
    words = ["model=tiny_llama", "formulation=verbaliser", "forgetting=quick", "+forgetting.tasks=[piqa,hellaswag]"]
    record = of(
        [*words, "+forgetting.hellaswag.metric=acc_norm", "+forgetting.examples=null", "+forgetting.piqa.shots=2"]
    )
    again = shlex.split(command([record]))[3:]
    assert identity.description(composed(again)) == record.config
    assert "++forgetting.tasks=[hellaswag,piqa]" in again
    alone = of([*words[:2], "forgetting=lm_eval", "forgetting.tasks=[winogrande]"])
    assert identity.description(composed(shlex.split(command([alone]))[3:])) == alone.config


def test_a_file_of_ones_own_is_named_by_its_format(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("message,team\na,x\nb,y\n" * 20)
    words = ["dataset.text=message", "dataset.label=team", "dataset.metrics=f1_macro", "dataset.also=[accuracy]"]
    config = composed(["dataset=csv", f"dataset.file={tmp_path / 'tickets.csv'}", *words])
    described = identity.description(config)
    described["dataset"] |= {"name": "tickets", "labels": ["x", "y"]}  # As a run reads them.
    line = command([RunRecord(key="", status="completed", config=described, score=0.5)])
    assert "dataset=csv dataset.file=tickets.csv " in line
    assert "dataset.labels" not in line, "nobody named them"
    again = [word for word in shlex.split(line) if word.lstrip("+").startswith("dataset.")]
    assert composed(["dataset=csv", *again]).dataset == replace(config.dataset, file="tickets.csv")


def test_labels_of_ones_own_file_in_an_order_of_ones_own_are_named() -> None:
    described = identity.description(
        composed(["dataset=csv", "dataset.file=t.csv", "dataset.text=a", "dataset.label=b"])
    )
    described["dataset"] |= {"name": "t", "labels": ["low", "high"]}
    assert "'dataset.labels=[low,high]'" in command(
        [RunRecord(key="", status="completed", config=described, score=0.5)]
    )


def test_seeds_make_a_sweep() -> None:
    records = [made(0.5, "method=lora", f"seed={seed}") for seed in (2, 0, 1)]
    line = command(records)
    assert line.endswith(" -m")
    assert " seed=0,1,2 " in line


def test_published_runs_can_be_made_again() -> None:
    from peftbench.results.store import ResultStore

    root = Path(__file__).parents[3] / "results" / "published" / "six_methods"
    records = [record for _, record in ResultStore(root).scan() if isinstance(record, RunRecord)]
    assert len(records) == 12
    for record in records[:4]:
        now = identity.description(composed(shlex.split(command([record]))[3:]))
        assert identity.described_identity(now) == identity.described_identity(record.config)


def test_what_is_not_in_conf_any_more_is_named_all_the_same() -> None:
    record = of([], score=0.5)
    record.config["dataset"] = {**record.config["dataset"], "name": "$(reboot) of mine"}
    assert "'dataset=$(reboot) of mine'" in command([record])
