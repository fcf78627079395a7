"""Command lines with a mistake: each is one line that names the key and what is allowed, and nothing is trained."""

from pathlib import Path

import pytest

from tests.helpers.runs import Run

BAD = [
    (["method=lorra"], ["method=lorra", "nearest: lora"]),
    (["model=bert_bas"], ["model=bert_bas", "nearest: bert_base"]),
    (["dataset=sst3"], ["dataset=sst3", "nearest: sst2"]),
    (["sweep=glue_quik"], ["sweep=glue_quik", "nearest: glue_quick"]),
    (["experiment=lora/rte"], ["experiment=lora/rte", "nearest: "]),
    (["hardware=tpu"], ["hardware=tpu", "cpu, cpu_bf16"]),
    (["method=lora,nope", "-m"], ["method=nope"]),
    (["methd=lora"], ["methd", "nearest: method"]),
    (["recipe.bach_size=4"], ["recipe.bach_size", "nearest: batch_size"]),
    (["recipe.batch_size.x=4"], ["recipe.batch_size is a single value"]),
    (["method.adapter.rr=4"], ["method.adapter.rr", "+method.adapter.rr="]),
    (["+method.adapter.rr=4"], ["method.adapter.rr: LoraConfig has no such argument"]),
    (["+recipe.foo=1"], ["recipe.foo: no such key", "batch_size"]),
    (["method.lr=fast"], ["method.lr", "fast"]),
    (["method.lr=-0.1"], ["method.lr=-0.1", "above 0"]),
    (["method.lr=0"], ["method.lr=0", "above 0"]),
    (["method.lr=inf"], ["method.lr=inf", "above 0"]),
    (["method.lr=nan"], ["method.lr=nan", "above 0"]),
    (["method.lr=null"], ["method.lr", "needs a learning rate"]),
    (["recipe.batch_size=0"], ["recipe.batch_size=0", "at least 1"]),
    (["recipe.batch_size=2.5"], ["recipe.batch_size", "2.5"]),
    (["recipe.batch_size=[1,2]"], ["recipe.batch_size"]),
    (["recipe.epochs=-3"], ["recipe.epochs=-3", "at least 1"]),
    (["recipe.max_steps=0"], ["recipe.max_steps=0"]),
    (["recipe.selection=luck"], ["recipe.selection=luck", "best_on_selection | best_on_validation | last"]),
    (["recipe.schedule=steps"], ["recipe.schedule=steps", "linear | cosine | constant"]),
    (["recipe.warmup_ratio=1.5"], ["recipe.warmup_ratio=1.5", "at most 1"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["seed=one"], ["seed", "one"]),
    (["seed=0,-1", "-m"], ["seed=-1"]),
    (["seed=null"], ["seed"]),
    (["hardware.precision=8"], ["hardware.precision=8", "32-true | bf16-mixed"]),
    (["hardware.threads=0"], ["hardware.threads=0"]),
    (["formulation=magic"], ["formulation=magic", "auto | head | verbaliser | text"]),
    (["dataset=[sst2,rte]"], ["dataset=[sst2,rte]", "dataset=a,b"]),
    (["method={a:b}"], ["method={a:b}"]),
    (["method=null"], ["method=null"]),
    (["dataset.metrics={accuracy:up}"], ["dataset.metrics"]),
    (["dataset.labels=[yes]"], ["dataset.labels", "two or more"]),
    (["method.site=everywhere"], ["method.site=everywhere", "attention_query_value"]),
    (["experiment=lora/table2_roberta_base", "method=full"], ["experiment=lora/table2_roberta_base fixes its method"]),
    (["data_root=/nowhere", "dataset=sst2"], ["data_root=/nowhere"]),
    (["dataset=sst2"], ["can't be reached", "data_root=", "dataset=demo"]),
    (["model=roberta_base"], ["model=roberta_base", "can't be reached", "model_root="]),
    (["model_root=/nowhere", "model=roberta_base"], ["model_root=/nowhere"]),
    (["results_dir=/proc/x"], ["results_dir=/proc/x", "can't be written"]),
    (["--fast"], ["--fast: no such option"]),
    (["--config-dir=/nowhere"], ["--config-dir /nowhere"]),
    (["train"], ["train: no such command", "report"]),
    (["repotr"], ["repotr: no such command", "nearest: report"]),
    (["report", "results=x"], ["report: results=x", "results_dir="]),
    (["report", "results_dir=/nowhere"], ["results_dir=/nowhere"]),
    (["list", "method"], []),
    (["list", "metods"], ["list metods", "nearest: methods"]),
    (["check", "all"], ["check: takes no all"]),
    (["model.head=[]"], ["model.head"]),
    (["method.adapter.lora_alpha=nan"], ["method.adapter.lora_alpha=nan", "finite"]),
    (["~method"], ["method: is required"]),
    (["dataset=demo", "dataset.evaluation=[test]"], ["dataset.evaluation=test", "train, validation"]),
    (["dataset=demo", "dataset.train=trian"], ["dataset.train=trian"]),
    (["dataset=csv"], ["dataset.train_file: is required"]),
    (["dataset=csv", "dataset.train_file=no.csv"], ["dataset.train_file=no.csv: there is no such file"]),
    (["recipe.shots=4"], ["recipe.shots_seed: is required"]),
    (["recipe=fewshot", "recipe.shots=0"], ["recipe.shots=0"]),
    (["hardware=gpu"], ["hardware.accelerator=gpu", "no CUDA device"]),
    (["recipe.max_length=600"], ["recipe.max_length=600", "514 positions"]),
    (["recipe.max_length=500", "method=prompt"], ["recipe.max_length=500", "virtual tokens take 20"]),
    (["method.adapter.target_modules='(('"], ["method=lora"]),
    (["+recipe.optimizer.lr=1"], ["recipe.optimizer"]),
    (["a b"], ["a b"]),
    (["=1"], ["=1"]),
    (["method.adapter._target_=os.system"], ["method.adapter._target_=os.system"]),
    (["method._target_=subprocess.Popen"], ["method._target_=subprocess.Popen", "allowed is a subclass"]),
    (["recipe.optimizer._target_=os.system"], ["recipe.optimizer._target_=os.system"]),
    (["results_dir=${oc.env:NOT_THERE}"], ["NOT_THERE"]),
    (["recipe.batch_size=${seed"], ["recipe.batch_size=${seed"]),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_nothing_is_trained(
    run_cli: Run, results: Path, arguments: list[str], said: list[str]
) -> None:
    if arguments == ["list", "method"]:
        assert run_cli(*arguments)[0] == 0  # The singular is understood.
        return
    commanded = not any("=" in a or a.startswith("-") for a in arguments[:1])
    places = [] if commanded or arguments[0].startswith("results_dir") else [f"results_dir={results}"]
    model = [] if commanded or any("model" in a or "experiment" in a for a in arguments) else ["model=tiny_bert"]
    status, out, err = run_cli(*arguments, *model, *places)
    assert status == 2, (out, err)
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("peftbench: ")
    for words in said:
        assert words in lines[0]
    assert not list(results.rglob("*.json"))
