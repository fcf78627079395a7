"""Which record is of which run: copies of records, several records of one key, keys read off a record."""

import json
from pathlib import Path

import pytest

from peftbench.config import identity
from peftbench.results.key import run_key
from peftbench.results.reading import key_of, read
from peftbench.results.records import RunRecord
from peftbench.results.report import load
from peftbench.results.report.stats import leaderboard
from peftbench.results.store import ResultStore
from tests.helpers.composed import composed
from tests.helpers.hostile import whole
from tests.helpers.runs import Run


class TestOneRun:
    def test_a_copied_folder_counts_once(self, results: Path, run_cli: Run) -> None:
        config = composed(["model=tiny_bert"])
        file = ResultStore(results).put(config, whole(config))
        for number in range(2):
            copied = results / "records" / f"demo (copy {number})" / file.name
            copied.parent.mkdir(parents=True)
            copied.write_bytes(file.read_bytes())
        out = run_cli("report", f"results_dir={results}")[1]
        assert "50.0" in out
        assert out.count("the same run as") == 2
        assert "1 completed" in out
        assert "## Doubtful" in (results / "leaderboard.md").read_text()

    def test_two_records_of_one_key_are_two_runs(self, results: Path) -> None:
        records = []
        for method, score in (("lora", 0.2), ("bitfit", 0.9)):
            record = whole(composed(["model=tiny_bert", f"method={method}"]))
            record.key, record.score = "k", score
            records.append(record)
        (results / "records").mkdir(parents=True)
        for number, record in enumerate(records):
            (results / "records" / f"{number}.json").write_text(json.dumps(record.to_dict()))
        board = leaderboard(load.load(results))
        assert [(row.method, [c.mean for c in row.cells.values() if c]) for row in board.rows] == [
            ("bitfit", [0.9]),
            ("lora", [0.2]),
        ]
        assert [reason.partition(",")[0] for _, reason in board.doubtful] == ["its file's name is another run's"] * 2

    def test_a_seed_that_was_written_into_a_copy_is_named(self, results: Path) -> None:
        config = composed(["model=tiny_bert"])
        file = ResultStore(results).put(config, whole(config))
        file.with_name("0.json").write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
        (named,) = load.load(results).doubtful
        assert named[0].endswith("0.json")


PUBLISHED = sorted((Path(__file__).parents[2] / "results" / "published").glob("*/records/**/*.json"))


class TestKeys:
    def test_every_published_record_is_believed(self) -> None:
        assert len(PUBLISHED) > 200
        for file in PUBLISHED:
            record = read(file)
            assert isinstance(record, RunRecord), (file, record)
            assert record.status == "not_applicable" or key_of(record) == record.key == file.stem, file

    @pytest.mark.parametrize(
        "words",
        [["model=tiny_gpt2", "forgetting=mmlu"], ["dataset=record"], ["dataset=stsb", "formulation=verbaliser"],
         ["method=galore"], ["hardware=cpu_bf16"], ["dataset=wsc"], ["dataset=samsum", "model=tiny_t5"],
         ["dataset=mixture", "dataset.parts=[rte,sst2]"]],
    )  # fmt: skip
    def test_the_key_by_a_record_is_that_by_its_configuration(self, words: list[str]) -> None:
        config = composed(["model=tiny_bert", *words])
        questions = {name: "q" for name in config.forgetting or {}}
        environment = {"data_fingerprint": "d", "model_fingerprint": "m", "inputs": {"teacher": "t"}}
        described = json.loads(json.dumps(identity.description(config)))
        record = RunRecord(key="", status="completed", config=described, environment=environment)
        inputs = {"teacher": "t", **{f"forgetting.{name}": "q" for name in questions}}
        record.environment["questions"] = questions
        assert key_of(record) == run_key(config, data="d", model="m", inputs=inputs)
