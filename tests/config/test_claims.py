"""Published figures, the experiments made from them, and protocols by data set."""

import dataclasses
from pathlib import Path

import pytest

from peftbench.config import claims, compose, experiments, loading, paths
from peftbench.errors import ConfigError
from peftbench.sweep.cells import plan as plan_cells

FILES = paths.choice_files("experiment")
MADE = dict(claims.experiments())

#: The systems that course material compares, and the method of ours that each is.
SYSTEMS = ["full", "houlsby", "pfeiffer", "lora", "prefix", "prompt", "p_tuning", "p_tuning_v2", "bitfit", "ia3",
           "diff_pruning", "sam_selection", "qlora", "adalora", "vera", "dora", "fourierft", "compacter", "mam",
           "adapter_fusion"]  # fmt: skip


def test_the_files_are_those_that_the_figures_make() -> None:
    made = {name for name in FILES if not name.startswith("peftbench/")}
    assert made == set(MADE)
    assert [name for name, text in MADE.items() if FILES[name].read_text() != text] == []


def test_thirty_tables_of_twelve_papers_can_be_run() -> None:
    assert len(MADE) >= 30
    assert len({name.partition("/")[0] for name in MADE}) >= 12
    methods = {
        str(entry.get("override /method")) for name in MADE for entry in loading.read_yaml(FILES[name])["defaults"]
    }
    assert set(SYSTEMS) <= methods
    assert "dialogsum" in loading.read_yaml(FILES["summarization_labs/dialogsum_flan_t5_base_lora"])["protocol"]


def test_a_figure_is_that_of_the_table() -> None:
    """Read off the CSV files by hand."""
    expected = {(c.experiment, c.dataset): c.expected for c in experiments.claims()}
    rte = expected["lora/table2_roberta_base", "rte"]
    assert rte is not None
    assert (rte.value, rte.spread, rte.rounding) == (0.866, 0.007, 0.0005)
    assert (rte.statistic, rte.seeds, rte.start) == ("median", 5, "lora/table2_roberta_base mnli")
    e2e = expected["lora/table3_gpt2_medium", "e2e_nlg"]
    assert e2e is not None
    assert (e2e.value, e2e.metric, e2e.statistic, e2e.seeds, e2e.split) == (0.704, "bleu", "mean", 3, "test")
    iqr = expected["tfew_ia3/table4_t0_3b_ia3", "cb"]
    assert iqr is not None
    assert (iqr.value, iqr.spread, iqr.spread_kind, iqr.selection) == (0.875, 0.018, "iqr", "last")
    assert expected["bitfit/table2_roberta_base", "mrpc"].metric is None  # type: ignore[union-attr]
    assert expected["qlora/table3_roberta_large", "rte"] is None


def test_every_figure_is_a_number_with_a_source() -> None:
    for paper in claims.papers():
        rows = claims.figures(paper)
        assert rows
        assert [row for row in rows if not row.table or not row.model or not row.method] == []
        assert [row.value for row in rows if not -1e3 < float(row.value) < 1e11] == []
    assert sum(len(claims.figures(paper)) for paper in claims.papers()) > 2500


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith("lora/")] + ["adalora/table1_deberta_v3_base"]
)
def test_an_experiment_is_the_same_composed_by_hydra(name: str) -> None:
    """`on_all_datasets` composes once."""
    datasets = list(loading.read_yaml(FILES[name])["protocol"])
    by_hydra = plan_cells([f"experiment={name}", f"dataset={','.join(datasets)}"], multirun=True).cells
    assert [config.dataset.name for config in by_hydra] == datasets
    assert experiments.on_all_datasets(name) == by_hydra


def _of_data(name: str) -> dict[str, dict]:
    """What an experiment's protocol says of its data sets' own keys."""
    protocol = loading.read_yaml(FILES[name]).get("protocol") or {}
    return {dataset: part["dataset"] for dataset, part in protocol.items() if "dataset" in part}


@pytest.mark.parametrize(
    "name", [name for name, file in FILES.items() if "dataset: {" in file.read_text() and _of_data(name)]
)
def test_the_protocol_of_a_data_set_has_a_say_in_the_data(name: str) -> None:
    """How an answer is written, or what is cut: `dataset=` on the command line chooses the protocol, and no more."""
    for dataset, section in _of_data(name).items():
        composed = compose.one([f"experiment={name}", f"dataset={dataset}"])
        assert _within(section, dataclasses.asdict(composed.dataset))


def test_some_protocol_speaks_of_the_data_and_the_command_line_wins_there_too() -> None:
    name = "peftbench/smollm2_lora_smollm2_135m"
    assert _of_data(name) == {"dialogsum": {"generation": {"max_new_tokens": 64, "num_beams": 1}}}
    found = compose.one([f"experiment={name}", "dataset=dialogsum", "dataset.generation.num_beams=2"])
    generation = found.dataset.generation
    assert (generation.max_new_tokens, generation.num_beams) == (64, 2)


def _within(section: dict, found: dict) -> bool:
    return all(_within(v, found[k]) if isinstance(v, dict) else found[k] == v for k, v in section.items())


def test_the_protocol_goes_by_the_data_set_and_the_command_line_wins() -> None:
    line = ["experiment=lora/table2_roberta_large", "dataset=rte,cola", "recipe.epochs=3"]
    rte, cola = plan_cells(line, multirun=True).cells
    assert (rte.method.lr, rte.recipe.max_length, rte.recipe.epochs) == (4e-4, 512, 3)
    assert (cola.method.lr, cola.recipe.max_length, cola.recipe.epochs) == (2e-4, 128, 3)
    assert rte.by_dataset == ["method.lr", "recipe.batch_size", "recipe.max_length"]
    assert rte.start == {"experiment": "lora/table2_roberta_large", "dataset": "mnli"}
    assert (cola.start, rte.start_from) == (None, None)
    without = compose.one(["experiment=lora/table2_roberta_large", "dataset=rte", "start_from=null"])
    assert without.start is None


def _mine(folder: Path, text: str) -> list[Path]:
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text)
    return [folder]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("protocol: {rte: {recipe: {epochs: 3}}}", "dataset=demo: the experiment has no protocol for it"),
        ("protocol: {demo: {recipe: {epoch: 3}}}", "recipe.epoch: no such key"),
        ("protocol: [demo]", "protocol: allowed is a mapping"),
        (
            "protocol: {demo: {start_from: {experiment: x}}}",
            "start_from allowed is a mapping of dataset and experiment",
        ),
        ("expected: {demo: {value: 0.9}}", "expected.source: is required"),
        ("expected: {demo: {value: 9, source: x}}", "expected.value=9"),
        ("expected: {demo: {value: 0.9, source: x, statistic: mode}}", "expected.statistic=mode"),
        ("expected: {demo: 0.9}", "expected.demo: allowed is a row"),
        ("departures: none", "departures: allowed is a list of sentences"),
    ],
)
def test_a_wrong_experiment_is_named_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_cells(["experiment=mine"], multirun=False, config_dirs=_mine(tmp_path, text))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_figure_that_two_rows_have_is_refused() -> None:
    one = {"about": "LoRA", "rows": {"table": "Table 2", "model": "roberta-large", "method": "lora"}}
    with pytest.raises(ConfigError, match="2 rows for LoRA on rte"):
        claims._figure("lora", one, "rte")
