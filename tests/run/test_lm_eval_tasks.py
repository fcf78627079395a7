"""Benchmarks by the names of lm-eval's tasks: what its files say, our own reading of a task, and what is refused."""

import itertools
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from peftbench.config import compose, lm_eval_tasks
from peftbench.data.forgetting import locate
from peftbench.errors import ConfigError
from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from tests.helpers.asked import MMLU, TASK
from tests.helpers.built import Built, shake
from tests.helpers.runs import write_split

pytest.importorskip("lm_eval")

ARC = ["forgetting=lm_eval", "forgetting.tasks=[arc_easy]"]


@pytest.fixture
def composed(tmp_path: Path):
    """Composes a run on made-up questions in the schemas of ARC and PIQA."""
    for split, count in (("test", 7), ("train", 4)):
        rows = {
            "id": [f"{split}{i}" for i in range(count)],
            "question": [f"What is {'abc'[i % 3] * 3}?" for i in range(count)],
            "choices": [{"text": ["one", f"two{i}", "a third"], "label": ["A", "B", "C"]} for i in range(count)],
            "answerKey": ["ABC"[i % 3] for i in range(count)],
        }
        write_split(tmp_path / "ai2_arc" / "ARC-Easy", split, rows)
    piqa = {"goal": ["Open a box", "Eat"] * 3, "sol1": ["lift it"] * 6, "sol2": ["sit"] * 6, "label": [0, 1] * 3}
    write_split(tmp_path / "piqa", "validation", piqa)

    def of(*more: str):
        return compose.one([*TASK, f"data_root={tmp_path}", f"results_dir={tmp_path / 'out'}", *more])

    return of


def _own(model: torch.nn.Module, tokenizer, rows: list[dict], shots: list[dict]) -> list[float]:
    """ARC's prompt, one choice at a time: the likeliest by the sum of its tokens' log probabilities."""
    asked = "".join(f"Question: {r['question']}\nAnswer: {_answer(r)}\n\n" for r in shots)
    right = []
    for row in rows:
        ids = tokenizer(f"{asked}Question: {row['question']}\nAnswer:", add_special_tokens=False)["input_ids"]
        scores = []
        for text in row["choices"]["text"]:
            answer = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                told = model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
            scores.append(sum(told[len(ids) - 1 + i, token].item() for i, token in enumerate(answer)))
        right.append(float(row["choices"]["label"][scores.index(max(scores))] == row["answerKey"]))
    return right


def _answer(row: dict) -> str:
    return row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])]


@pytest.mark.parametrize("shots", [0, 4])
def test_a_task_is_asked_as_its_file_says(composed, shots: int) -> None:
    from peftbench.run import forgetting

    cell = prepare(composed("method=lora", *ARC, f"+forgetting.arc_easy.shots={shots}"))
    case = Built(cell)
    shake(case.model, seed=1, scale=0.3)
    cache = ResultStore(case.config.results_dir).cache
    asking = forgetting.Asking(case.config, cell.questions, case.context.tokenizer, nullcontext, cache)
    found = [score for score, _ in asking.answers(case.model)["arc_easy"]["arc_easy"]]
    benchmark = cell.config.forgetting["arc_easy"]
    assert benchmark.splits == (["test", "train"] if shots else ["test"])
    rows = cell.questions["arc_easy"].rows(benchmark, "arc_easy", "test").to_pylist()
    answered = [] if not shots else cell.questions["arc_easy"].rows(benchmark, "arc_easy", "train").to_pylist()
    # All four answered ones, in an order that lm-eval draws: one of 24.
    orders = [list(order) for order in itertools.permutations(answered)]
    assert found in [_own(case.model.eval(), case.context.tokenizer, rows, order) for order in orders]
    assert 0 < sum(found) < len(found) == 7


def test_a_run_records_tasks_beside_benchmarks(composed) -> None:
    config = composed(
        "method=lora", "recipe.max_steps=2", *ARC, "forgetting.tasks=[arc_easy,piqa]", "+forgetting.examples=5"
    )
    cell = prepare(config)
    record = run(RunContext(cell, ResultStore(config.results_dir).places(config, cell.key), [], lambda event: None))
    asked = record.forgetting
    assert {name: (one["n"], one["metric"], list(one["parts"])) for name, one in asked.items()} == {
        "arc_easy": (5, "acc", ["arc_easy"]),
        "piqa": (5, "acc", ["piqa"]),
    }


def test_what_files_say_of_well_known_tasks(composed) -> None:
    names = ["hellaswag", "winogrande", "lambada_openai", "gsm8k", "boolq", "mmlu_anatomy"]
    found = composed("forgetting=lm_eval", f"forgetting.tasks=[{','.join(names)}]").forgetting
    assert {name: (one.path, one.config, one.splits, one.metric) for name, one in found.items()} == {
        "hellaswag": ("Rowan/hellaswag", None, ["validation"], "acc"),
        "winogrande": ("allenai/winogrande", "winogrande_xl", ["validation"], "acc"),
        "lambada_openai": ("EleutherAI/lambada_openai", "default", ["test"], "acc"),
        "gsm8k": ("openai/gsm8k", "main", ["test", "train"], "exact_match"),
        "boolq": ("aps/super_glue", "boolq", ["validation"], "acc"),
        "mmlu_anatomy": ("cais/mmlu", "anatomy", ["test"], "acc"),
    }
    assert {one.examples for one in found.values()} == {100}


def test_a_task_stands_beside_a_choice(composed) -> None:
    config = composed(*MMLU, "+forgetting.tasks=[arc_easy]", "+forgetting.arc_easy.metric=acc_norm")
    assert set(config.forgetting) == {"mmlu", "arc_easy"}
    assert config.forgetting["arc_easy"].metric == "acc_norm"
    assert config.forgetting["mmlu"].metric == "acc"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["forgetting.tasks=[]"], r"forgetting.tasks=\[\]: allowed is a list of one or more names"),
        (["forgetting.tasks=arc_easy"], "forgetting.tasks=arc_easy: allowed is a list"),
        (["forgetting.tasks=[arc_esy]"], "lm-eval has no task or group arc_esy; nearest: arc_easy, "),
        (["forgetting.tasks=[ai2_arc]"], "ai2_arc is a group of lm-eval's; its tasks are arc_challenge, arc_easy"),
        (["forgetting.tasks=[wikitext]"], r"wikitext: its metrics \(word_perplexity, .*\) aren't right or wrong"),
        (["+forgetting.arc_easy=3"], "forgetting.arc_easy=3: allowed is a mapping, such as {metric: acc_norm"),
        (["+forgetting.arc_easy.metrc=x"], "forgetting.arc_easy.metrc: no such key"),
    ],
)
def test_what_cannot_be_asked_is_one_line(composed, more, message) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(*ARC, *more)


def test_missing_data_are_named_with_their_place(composed) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*/hellaswag/validation-\*.parquet for forgetting.hellaswag"):
        locate(composed("forgetting=lm_eval", "forgetting.tasks=[hellaswag]"))


def test_without_the_extra_it_is_named(composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'forgetting \(arc_easy\): needs lm-eval: pip install "peftbench\[lm_eval\]"'
    ):
        locate(composed(*ARC))


@pytest.mark.slow
def test_most_tasks_of_the_well_known_kinds_can_be_read() -> None:
    """Every task of these folders is either a benchmark or refused in one line that names it."""
    from peftbench.config.forgetting import BenchmarkConfig

    read, refused = 0, []
    folders = ["arc", "piqa", "hellaswag", "glue", "super_glue", "blimp", "gsm8k", "truthfulqa", "lambada", "bigbench"]
    for folder in folders:
        for file in sorted((lm_eval_tasks.root() / folder).glob("**/*.yaml")):
            name = lm_eval_tasks.read(file).get("task")
            if not isinstance(name, str) or not file.read_text().count(f"task: {name}"):
                continue
            try:
                asked = lm_eval_tasks.expand({"tasks": [name]})
            except ConfigError as error:
                refused.append(str(error).startswith(f"forgetting.tasks: {name}: "))
            else:
                BenchmarkConfig(**asked[name])
                read += 1
    assert read > 300
    assert all(refused)
    assert len(refused) < read / 5
