"""`peftbench reproduce`: what there is, runs with their start, verdicts, exit statuses, bad input."""

from pathlib import Path

import pytest

from peftbench.config import claims
from peftbench.results.report.load import load

TOY = f"--config-dir={Path(__file__).parents[1] / 'assets' / 'reproduce'}"


def test_what_there_is_is_listed(run_cli, results: Path) -> None:
    status, out, _ = run_cli("reproduce", f"results_dir={results}")
    assert status == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    _, *rows = lines[lines.index("lora/table2_roberta_base  (arXiv 2106.09685, Table 2)") :]
    row = next(line for line in rows if line.startswith("  rte "))
    assert "86.6 ± 0.7" in row
    assert "6,240 steps x 5" in row
    assert f"figures of {len(claims.papers())} papers are known" in out
    assert "  memory: Full fine-tuning needs 12 to 20 times the memory of the weights." in lines


def test_findings_are_listed_with_their_answers(run_cli) -> None:
    published = Path(__file__).parents[2] / "results" / "published" / "findings"
    status, out, _ = run_cli("reproduce", f"results_dir={published}")
    assert status == 0
    said = " ".join(out.partition("Sayings of the field")[2].split())
    answers = {one.name: one.result for one in load(published).findings}
    assert len(set(answers)) == 6
    for name, result in answers.items():
        assert f"{name}: {result.finding.statement} ({result.answer})" in said


def test_a_finding_that_is_not_one_is_named_among_the_others(run_cli, results: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "finding_x.yaml").write_text("# @package _global_\nfinding: {}\n")
    status, out, _ = run_cli("--config-dir", str(tmp_path), "reproduce", f"results_dir={results}")
    assert status == 0
    assert "  memory: Full fine-tuning needs" in out
    assert "  x: " in out


def test_a_papers_figures_are_shown_with_and_without_a_run_line(run_cli, results: Path) -> None:
    status, out, _ = run_cli("reproduce", "paper=dora", f"results_dir={results}")
    assert status == 0
    assert len(out.splitlines()) == len(claims.figures("dora"))
    assert any("llama-7b" in line and "68.9" in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiment=lora/table2"], "experiment=lora/table2: no such experiment; nearest: "),
        (["experiment=lora/table2_roberta_base", "dataset=demo"], "the experiment has no protocol for it"),
        (["experiment=a,b"], "one experiment at a time"),
        (["experiment=lora/table2_roberta_base", "train=maybe"], "train=maybe: allowed is true | false"),
        (["paper=loras"], "paper=loras: no such paper; nearest: lora"),
        (["rows"], "reproduce: rows"),
        (["experiment=lora/table2_roberta_base", "recipe.epochs=1,2"], "one value a key"),
    ],
)
def test_bad_input_is_one_line(run_cli, words: list[str], says: str) -> None:
    status, _, err = run_cli("reproduce", *words)
    assert status == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_records_alone_are_judged_and_nothing_is_trained(run_cli, results: Path) -> None:
    line = ["reproduce", "experiment=lora/table2_roberta_base", "dataset=rte", "train=false", f"results_dir={results}"]
    status, out, _ = run_cli(*line)
    assert status == 3
    assert "claim    86.6 ± 0.7, median of 5 seeds; accuracy on validation; selection: best_on_validation" in out
    assert "because  no run is recorded" in out
    assert "- Table 9 prints alpha 8" in out
    assert not results.exists()


def test_a_run_without_its_start_is_refused_with_the_way_out(run_cli, tiny) -> None:
    words = [word for word in tiny() if not word.startswith(("model=", "dataset=", "recipe."))]
    status, _, err = run_cli(TOY, "experiment=toy/lora_bert", "dataset=mrpc", *words)
    assert status == 2
    assert "goes on from the run of experiment=toy/full_bert dataset=sst2" in err
    assert "start_from=null starts at the checkpoint" in err


@pytest.mark.slow
def test_a_row_is_run_after_its_start_and_judged(run_cli, data_root: Path, results: Path) -> None:
    line = ["reproduce", TOY, "experiment=toy/lora_bert", "dataset=mrpc", f"data_root={data_root}"]
    line.append(f"results_dir={results}")
    status, out, _ = run_cli(*line, "dry_run=true")
    assert status == 0
    assert "then dataset=mrpc seed=0,1, from that run's weights" in out
    assert load(results).completed == []
    status, out, _ = run_cli(*line)
    assert status == 3  # The set here isn't the official one.
    assert "the official one 408" in out
    made = load(results).completed
    start = next(record for record in made if record.config["method"]["name"] == "full")
    assert sorted(record.config["seed"] for record in made if record is not start) == [0, 1]
    assert {record.environment["start"] for record in made if record is not start} == {start.key}
    status, out, _ = run_cli(*line, "start_from=null", "seed=0")
    assert status == 3
    assert "the paper starts from its run of experiment=toy/full_bert dataset=sst2" in out
    again = run_cli(*line)[1]
    assert "2 completed (0 now, 2 before)" in again
