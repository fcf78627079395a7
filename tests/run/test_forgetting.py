"""What tuning made a decoder forget: against a computation of our own, on made-up questions laid out like the hub's."""

import importlib.util
import json
import random
import statistics
from pathlib import Path

import pytest
import torch

from peftbench.config import compose, identity, loading, paths, types
from peftbench.data.forgetting import check as check_benchmarks
from peftbench.data.forgetting import locate as locate_benchmarks
from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.key import run_key
from peftbench.results.records import from_dict
from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built, shake
from tests.helpers.runs import write_split

forgetting = pytest.importorskip("peftbench.run.forgetting")
pytest.importorskip("lm_eval")

TASK = [
    "model=tiny_llama",
    "dataset=demo",
    "formulation=verbaliser",
    "recipe.train_samples=16",
    "recipe.eval_samples=8",
]
#: Short prompts, so that bytes fit a tiny model's positions.
MMLU = [
    "forgetting=mmlu",
    "forgetting.mmlu.parts=[anatomy,astronomy]",
    "forgetting.mmlu.shots=1",
    "forgetting.mmlu.examples=6",
]
BOTH = [
    *MMLU,
    "forgetting=mmlu_bbh",
    "forgetting.bbh.parts=[boolean_expressions]",
    "forgetting.bbh.examples=4",
    "forgetting.bbh.max_new_tokens=3",
]


def _questions(count: int, seed: int) -> dict[str, list]:
    draw = random.Random(seed)
    word = lambda: "".join(draw.choices("abcdefgh", k=draw.randint(2, 6)))  # noqa: E731
    return {
        "question": [f" What is {word()}? " for _ in range(count)],
        "choices": [[word() for _ in range(4)] for _ in range(count)],
        "answer": [draw.randrange(4) for _ in range(count)],
        "subject": [("anatomy", "astronomy", "virology")[i % 3] for i in range(count)],
    }


@pytest.fixture(scope="module")
def asked_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MMLU as one set, BBH as a config a task."""
    root = tmp_path_factory.mktemp("asked")
    for split, count in (("test", 30), ("dev", 6)):
        write_split(root / "mmlu" / "all", split, _questions(count, seed=count))
    rows = {"input": ["not True is", "True and False is"] * 4, "target": ["False"] * 8}
    write_split(root / "bbh" / "boolean_expressions", "test", rows)
    return root


@pytest.fixture
def composed(asked_root: Path, results: Path):
    def of(*more: str) -> types.RunConfig:
        return compose.one([*TASK, f"data_root={asked_root}", f"results_dir={results}", *more])

    return of


def _asking(case: Built, cell) -> "forgetting.Asking":
    from contextlib import nullcontext

    cache = ResultStore(case.config.results_dir).cache
    return forgetting.Asking(case.config, cell.questions, case.context.tokenizer, nullcontext, cache)


def _own_mmlu(model: torch.nn.Module, tokenizer, cell, part: str) -> list[float]:
    """The paper's prompt, one example at a time: the letter with the largest log probability."""
    benchmark = cell.config.forgetting["mmlu"]
    test, dev = (cell.questions["mmlu"].rows(benchmark, part, split).to_pylist() for split in ("test", "dev"))

    def posed(row: dict) -> str:
        lines = [f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=True)]
        return "\n".join([row["question"].strip(), *lines, "Answer:"])

    head = f"The following are multiple choice questions (with answers) about {part}.\n\n"
    found = []
    for row in test[: benchmark.examples]:
        shots = "".join(f"{posed(shot)} {'ABCD'[shot['answer']]}\n\n" for shot in dev[: benchmark.shots])
        ids = tokenizer(head + shots + posed(row), add_special_tokens=False)["input_ids"]
        scores = []
        for letter in "ABCD":
            answer = tokenizer(f" {letter}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                told = model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
            told = told[len(told) - len(ids + answer) :]  # Virtual tokens stand before.
            scores.append(sum(told[len(ids) - 1 + i, token].item() for i, token in enumerate(answer)))
        found.append(float(max(range(4), key=scores.__getitem__) == row["answer"]))
    return found


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_mmlu_is_scored_as_the_paper_says(composed, method: str) -> None:
    cell = prepare(composed(f"method={method}", *MMLU))
    case = Built(cell)
    shake(case.model, seed=1, scale=0.3)
    found = _asking(case, cell).answers(case.model, case.method.prepare_batch)
    for part in ("anatomy", "astronomy"):
        own = _own_mmlu(case.model.eval(), case.context.tokenizer, cell, part)
        assert [score for score, _ in found["mmlu"][part]] == own
        assert len(own) == 6
    assert 0 < sum(score for part in found["mmlu"].values() for score, _ in part) < 12


def _run(config: types.RunConfig):
    cell = prepare(config)
    places = ResultStore(config.results_dir).places(config, cell.key)
    return run(RunContext(cell, places, [], lambda event: None))


def test_a_run_records_what_was_forgotten(composed, results: Path) -> None:
    record = _run(composed("method=full", "method.lr=1", "recipe.max_steps=8", "recipe.selection=last", *BOTH))
    assert record.footnotes == [note for note in record.footnotes if "measured" not in note]
    assert set(record.forgetting) == {"mmlu", "bbh"}
    mmlu = record.forgetting["mmlu"]
    assert (mmlu["n"], mmlu["cut"], list(mmlu["parts"])) == (12, 0, ["anatomy", "astronomy"])
    assert mmlu["difference"] == pytest.approx(mmlu["after"] - mmlu["before"])
    assert mmlu["before"] == pytest.approx(statistics.fmean(part["before"] for part in mmlu["parts"].values()))
    assert mmlu["difference"] != 0 or mmlu["difference_se"] > 0
    assert record.forgetting["bbh"]["n"] == 4
    assert from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert len(list((results / "cache" / "forgetting").glob("*.json"))) == 1


def test_the_base_is_the_one_that_the_run_began_with(composed) -> None:
    """A random start too: what isn't tuned answers the same, question for question."""
    for found in _run(composed("method=zero_shot", *MMLU)).forgetting["mmlu"]["parts"].values():
        assert (found["difference"], found["difference_se"]) == (0.0, 0.0)


def test_the_base_is_asked_once(composed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(composed("method=zero_shot", *MMLU))
    loaded = []
    monkeypatch.setattr(forgetting, "reseeded", lambda *given: loaded.append(given))
    assert _run(composed("method=lora", *MMLU)).forgetting["mmlu"]["before"] == first.forgetting["mmlu"]["before"]
    assert not loaded


def test_the_answer_is_read_without_its_space(composed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte-level tokenizers write " False" where the task's target is "False"."""
    case_of = prepare(composed("method=zero_shot", *BOTH, "forgetting.bbh.max_new_tokens=6"))
    case = Built(case_of)
    answer = case.context.tokenizer(" False", add_special_tokens=False)["input_ids"]

    def write(input_ids: torch.Tensor, **_) -> torch.Tensor:
        return torch.cat([input_ids, torch.tensor([answer] * len(input_ids))], dim=1)

    monkeypatch.setattr(case.model, "generate", write)
    found = _asking(case, case_of).answers(case.model)
    assert [score for score, _ in found["bbh"]["boolean_expressions"]] == [1.0] * 4


def test_cut_prompts_are_counted(composed) -> None:
    cell = prepare(composed("method=zero_shot", *MMLU, "forgetting.mmlu.parts=[anatomy]"))
    case = Built(cell)
    case.model.config.max_position_embeddings = 60
    assert all(cut for _, cut in _asking(case, cell).answers(case.model)["mmlu"]["anatomy"])


def test_paired_errors_by_hand() -> None:
    """Differences 0 -1 1 -1: mean -1/4, squares about it 11/4, over 3 and 4: the root of 11/48."""
    before = [(1.0, False), (1.0, False), (0.0, False), (1.0, True)]
    after = [(1.0, False), (0.0, True), (1.0, False), (0.0, False)]
    found = forgetting.compared(before, after)
    assert (found["n"], found["before"], found["after"], found["cut"]) == (4, 0.75, 0.5, 1)
    assert found["difference"] == -0.25
    assert found["difference_se"] == pytest.approx((11 / 48) ** 0.5)
    # Three of four right: the sample variance is 1/4.
    assert found["before_se"] == pytest.approx(0.25)
    assert forgetting.compared(before[:1], after[:1])["difference_se"] is None


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


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("method", paths.choices("method"))
def test_every_method_is_asked_or_refused(composed, method: str) -> None:
    """Written and scored answers, of a model that is tuned by it."""
    from peftbench.config import formulations

    try:
        few = ["forgetting.mmlu.parts=[anatomy]", "forgetting.mmlu.examples=2", "forgetting.bbh.examples=2"]
        config = composed(f"method={method}", "recipe.max_length=100", *BOTH, *few)
        check_benchmarks(config, formulations.formulation(config))
        cell = prepare(config)
        case = Built(cell)
    except ConfigError as error:
        # A method says itself where it can't be asked; were these refused too, the test would pass on nothing.
        if method in ("lora", "full", "prefix", "houlsby"):
            raise
        pytest.skip(str(error))
    found = _asking(case, cell).answers(case.model, case.method.prepare_batch)
    assert {name: {part: len(of) for part, of in parts.items()} for name, parts in found.items()} == {
        "mmlu": {"anatomy": 2},
        "bbh": {"boolean_expressions": 2},
    }


class TestWhatIsKept:
    def _base(self, found: types.RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How often the base is asked."""
        asked: list[int] = []
        monkeypatch.setattr(forgetting, "reseeded", lambda *given: torch.nn.Linear(1, 1))
        monkeypatch.setattr(forgetting.Asking, "answers", lambda *given: asked.append(1) or {"mmlu": {"a": [[1.0, 0]]}})
        case_of = prepare(found)
        asking = forgetting.Asking(found, case_of.questions, None, None, ResultStore(found.results_dir).cache)  # type: ignore[arg-type]
        kept = asking.base_answers(build_task(found), case_of.checkpoint)
        assert kept == {"mmlu": {"a": [[1.0, 0]]}}
        return asked

    @pytest.mark.parametrize(
        ("more", "anew"),
        [
            (["method=lora"], False),
            (["recipe.epochs=7"], False),
            (["method=prompt"], True),  # Its virtual tokens take positions from prompts.
            (["hardware.eval_batch_size=3"], True),
            (["forgetting.mmlu.shots=2"], True),
            (["seed=1"], True),  # A model that starts at random.
        ],
    )
    def test_the_base_is_asked_anew_where_it_may_answer_otherwise(self, composed, monkeypatch, more, anew) -> None:
        assert self._base(composed("method=zero_shot", *MMLU), monkeypatch) == [1]
        assert self._base(composed("method=zero_shot", *MMLU, *more), monkeypatch) == [1] * anew

    @pytest.mark.parametrize("damaged", [b"", b'{"mmlu": {"a": [[0.0, 0]]}}'])
    def test_answers_that_do_not_hold_are_asked_anew(self, composed, monkeypatch, results: Path, damaged) -> None:
        found = composed("method=zero_shot", *MMLU)
        self._base(found, monkeypatch)
        file = next((results / "cache" / "forgetting").glob("*.json"))
        file.write_bytes(damaged)
        assert self._base(found, monkeypatch) == [1]
        assert self._base(found, monkeypatch) == []
