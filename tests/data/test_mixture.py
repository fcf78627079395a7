"""Several data sets at once: how they mix, what each is scored on, and that no part sees another's labels."""

import json
import statistics
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from peftbench.config import compose, identity, loading
from peftbench.data.mixture import MixedBatches, MixtureDataModule, shares
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.report import render_markdown
from peftbench.results.store import ResultStore
from peftbench.run.verify import problem_with
from peftbench.sweep.cells import plan as plan_cells
from peftbench.tasks.table import build as build_task
from tests.helpers.boards import board, made

MIXTURE = ("dataset=mixture", "dataset.parts=[sst2,mrpc]")


class Mixed:
    """A mixture of the two made-up sets on a tiny model."""

    def __init__(self, found) -> None:
        self.config = found.config
        self.task = build_task(found.config)
        self.data = MixtureDataModule(
            found.config,
            self.task,
            backbones.load_tokenizer(found.config.model, found.checkpoint),
            source=found.source,
            tokenizer_fingerprint="t",
            cache=ResultStore(found.config.results_dir).cache,
        )
        self.data.setup()
        torch.manual_seed(3)
        self.model = backbones.load_model(found.config, found.checkpoint, self.task)


@pytest.fixture
def mixed(cell):
    return lambda *more: Mixed(cell(*MIXTURE, *more))


def test_shares_by_hand() -> None:
    assert shares([8000, 2000], 1) == [8000, 2000]
    # Square roots are 89.44 and 44.72, two to one: 6666.7 and 3333.3.
    assert shares([8000, 2000], 2) == [6667, 3333]
    assert shares([2, 10**4], 0.5) == [1, 10**4 + 2]
    assert sorted(shares([1, 10, 100], 1e9)) == [37, 37, 37]


def batches(temperature: float, seed: int = 0) -> MixedBatches:
    lengths = torch.randint(4, 40, (1000,), generator=torch.Generator().manual_seed(1))
    return MixedBatches(lengths, sizes=[900, 100], temperature=temperature, batch_size=8, seed=seed)


def test_by_examples_every_example_comes_once_an_epoch() -> None:
    sampler = batches(1)
    assert len(sampler) == 125
    for _ in range(2):
        found = [i for batch in sampler for i in batch]
        assert sorted(found) == list(range(1000))


def test_by_temperature_small_parts_come_more_often() -> None:
    sampler = batches(2)  # 30 to 10: three quarters and a quarter.
    first, second = ([i for batch in sampler for i in batch] for _ in range(2))
    for epoch in (first, second):
        large, small = [i for i in epoch if i < 900], [i for i in epoch if i >= 900]
        assert (len(large), len(small)) == (750, 250)
        assert len(set(large)) == 750
        assert {small.count(i) for i in range(900, 1000)} == {2, 3}
    assert set(first) != set(second)
    assert first == [i for batch in batches(2) for i in batch]
    assert first != [i for batch in batches(2, seed=1) for i in batch]
    # The parts are mixed within the epoch, not one behind the other.
    assert 0.1 < sum(i >= 900 for i in first[:500]) / 500 < 0.4


@pytest.mark.parametrize(
    ("model", "formulation"),
    [
        ("tiny_bert", "head"),
        ("tiny_bert", "verbaliser"),
        pytest.param("tiny_llama", "head", marks=pytest.mark.slow),
        pytest.param("tiny_llama", "verbaliser", marks=pytest.mark.slow),
        pytest.param("tiny_t5", "verbaliser", marks=pytest.mark.slow),
    ],
)
def test_an_example_is_answered_on_its_own_parts_labels(mixed, model: str, formulation: str) -> None:
    case = mixed(f"model={model}", f"formulation={formulation}")
    train = case.data.train
    sizes = [len(module.train) for module in case.data.modules]
    indices = [0, sizes[0], 1, sizes[0] + 1, 2]
    batch = train.collate(indices)
    assert batch["part"].tolist() == [0, 1, 0, 1, 0]
    with torch.no_grad():
        outputs = case.model(**case.task.inputs(batch))
        together = case.task.predictions(outputs, batch)
        losses = case.task.losses(outputs, batch)
    assert together.shape == (5, 4)
    for row, (part, own) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]):
        # The same example asked by its own data set's task alone.
        task, alone = case.task.parts[part], case.data.modules[part].train.collate([own])
        with torch.no_grad():
            single = case.model(**task.inputs(alone))
        if formulation == "head":
            single = SimpleNamespace(logits=single.logits[:, 2 * part : 2 * part + 2])
        expected = task.predictions(single, alone)[0]
        assert torch.allclose(together[row, 2 * part : 2 * part + 2], expected, atol=1e-4)
        assert (together[row, 2 - 2 * part : 4 - 2 * part] == -torch.inf).all()
        assert torch.allclose(losses[row], F.cross_entropy(expected[None], alone["labels"])[None], atol=1e-4)


def test_no_gradient_reaches_the_other_parts_labels(mixed) -> None:
    case = mixed()
    batch = case.data.train.collate(range(8))  # sst2's alone.
    case.task.losses(case.model(**case.task.inputs(batch)), batch).mean().backward()
    gradient = case.model.classifier.weight.grad
    assert (gradient[:2] != 0).any()
    assert (gradient[2:] == 0).all()


def test_the_record_has_every_part(train, tiny) -> None:
    record = train(*MIXTURE, "recipe.max_steps=4")
    assert list(record.metrics) == ["train", "selection", "sst2/validation", "mrpc/validation"]
    parts = [record.metrics[f"{name}/validation"] for name in ("sst2", "mrpc")]
    assert [set(part["values"]) for part in parts] == [{"accuracy"}, {"accuracy", "f1"}]
    assert record.score == pytest.approx(statistics.fmean(part["score"] for part in parts))
    assert set(record.metrics["selection"]["values"]) == {"sst2", "mrpc"}
    assert record.samples["train"] == 144
    config = compose.one(tiny(*MIXTURE, "recipe.max_steps=4"))
    assert config.dataset.name == "sst2+mrpc"
    (file,) = (ResultStore(config.results_dir).root / "predictions").rglob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    for name, first in (("sst2", 0), ("mrpc", 2)):
        own = [row for row in rows if row["split"] == f"{name}/validation"]
        assert {row["label"] for row in own} == {first, first + 1}
        assert all(len(row["scores"]) == 2 for row in own)
        right = statistics.fmean(row["label"] == row["answer"] for row in own)
        assert right == pytest.approx(record.metrics[f"{name}/validation"]["values"]["accuracy"])


def test_the_commonest_class_is_each_parts_own(train) -> None:
    record = train(*MIXTURE, "method=majority")
    assert record.metrics["sst2/validation"]["values"]["accuracy"] == 0.5
    assert record.metrics["mrpc/validation"]["values"]["accuracy"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["best_on_validation", "last", "best_on_selection"])
def test_a_mixture_is_learnt(train, selection: str) -> None:
    more = ("method=full", "recipe.epochs=12", "method.lr=2e-3", f"recipe.selection={selection}")
    record = train(*MIXTURE, "dataset.mixing=temperature", "dataset.temperature=2", *more)
    assert record.metrics["sst2/validation"]["values"]["accuracy"] > 0.8
    assert (record.metrics["selection"] is None) is (selection != "best_on_selection")
    noted = "the step was chosen on sst2/validation, mrpc/validation"
    assert any(noted in note for note in record.footnotes) is (selection == "best_on_validation")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.parts=[sst2]"], "dataset.parts=['sst2']: allowed is a list of two or more different data sets"),
        (["dataset.parts=[sst2,sst2]"], "two or more different"),
        (["dataset.parts=[sst2,sst3]"], "dataset.parts: sst3 is no data set; nearest: sst2"),
        (["dataset.parts=[sst2,mixture]"], "mixture can't be a part"),
        (["dataset.mixing=evenly"], "dataset.mixing=evenly: allowed is examples | temperature"),
        (["dataset.mixing=temperature"], "dataset.temperature: goes with dataset.mixing=temperature"),
        (["dataset.temperature=2"], "dataset.temperature: goes with dataset.mixing=temperature"),
        (["dataset.mixing=temperature", "dataset.temperature=-1"], "dataset.temperature=-1"),
        (["dataset.carve.fraction=0.2"], "dataset.carve: a mixture has none"),
    ],
)
def test_what_is_no_mixture_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.one(["dataset=mixture", *overrides])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_parts_that_are_not_answered_by_a_label_are_refused(cell) -> None:
    found = cell(*MIXTURE)
    stsb = compose.one(["dataset=stsb"]).dataset
    config = replace(found.config, dataset=replace(found.config.dataset, parts=[found.config.dataset.parts[0], stsb]))
    problem = problem_with(config, found.checkpoint)
    assert problem is not None
    assert "stsb (regression) isn't answered by one label of several" in problem[0]


def test_a_mixtures_description_is_read_back() -> None:
    config = compose.one(["model=tiny_bert", *MIXTURE])
    back = loading.from_description(json.loads(json.dumps(identity.description(config))))
    assert back.dataset == config.dataset


def test_a_part_may_lie_in_a_folder_of_ones_own(tmp_path) -> None:
    (tmp_path / "dataset").mkdir()
    sst2 = (compose.paths.choice_files("dataset")["sst2"]).read_text()
    (tmp_path / "dataset" / "mine.yaml").write_text(sst2)
    plan = plan_cells(["dataset=mixture", "dataset.parts=[mine,rte]"], multirun=False, config_dirs=[tmp_path])
    assert [part.name for part in plan.cells[0].dataset.parts] == ["mine", "rte"]


def test_the_report_shows_the_parts() -> None:
    def scored(accuracy: float, f1: float) -> dict:
        values = {"sst2/validation": {"values": {"accuracy": accuracy}}, "mrpc/validation": {"values": {"f1": f1}}}
        return {"metrics": {"train": {"score": 0.9}, **values}}

    records = [
        made(0.7, *MIXTURE, "method=lora", "seed=0", **scored(0.8, 0.6)),
        made(0.7, *MIXTURE, "method=lora", "seed=1", **scored(0.9, 0.6)),
        made(0.7, "dataset=sst2", "method=lora", "seed=0"),
    ]
    text = render_markdown.render(board(*records))
    section = text.partition("## By metric")[2].split("\n## ")[0].strip()
    cells = {}
    for table in section.split("\n\n"):
        header, _, line = table.splitlines()[:3]
        cells |= dict(zip(*([c.strip() for c in row.split("|")[1:-1]] for row in (header, line)), strict=True))
    assert cells["sst2+mrpc sst2/validation accuracy"] == "85.0 ± 7.1 (n=2)"
    assert cells["sst2+mrpc mrpc/validation f1"] == "60.0 ± 0.0 (n=2)"
