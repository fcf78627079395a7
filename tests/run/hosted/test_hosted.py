"""Hosted runs against a server on loopback: what is sent, what is recorded, what is refused before anything is sent."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from peftbench.config import identity
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from tests.helpers.composed import composed
from tests.helpers.hosted_server import KEY, HostedServer, Script, serve

PRICES = ["hosted.price_train=3", "hosted.price_input=1", "hosted.price_output=2", "hosted.currency=EUR"]


@pytest.fixture
def script() -> Script:
    """Answers rightly but for case: the made-up sentences tell their label by their last word."""
    return Script(answer=lambda chat: "GOOD" if "superb" in chat[-1]["content"] else "bad ")


@pytest.fixture
def server(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(script) as server:
        yield server


@pytest.fixture
def line(server: HostedServer, data_root: Path, results: Path) -> Callable[..., list[str]]:
    """The arguments of a hosted run, with more overrides behind."""
    base = ["model=hosted", "dataset=sst2", "hosted.model=some-model", f"hosted.base_url={server.base_url}"]
    places = [f"data_root={data_root}", f"results_dir={results}", "hosted.poll_s=0.05"]
    return lambda *more: [*base, *places, "dataset.verbaliser=[bad,good]", *more]


def records(root: Path) -> list[RunRecord]:
    found = [record for _, record in ResultStore(root).scan()]
    assert all(isinstance(record, RunRecord) for record in found)
    return found  # type: ignore[return-value]


def test_a_job_trains_on_the_rows_that_other_methods_train_on(
    line: Any, script: Script, run_cli: Any, results: Path
) -> None:
    status, out, error = run_cli(*line("method=hosted", "hosted.consent=true", *PRICES))
    assert status == 0, out + error
    (record,) = records(results)
    assert record.score == record.metrics["validation"]["values"]["accuracy"] == 1.0
    assert record.params is None
    assert record.metrics["validation"]["n"] == 40
    ((name, content),) = script.files.values()
    assert name.startswith(f"peftbench-{record.key}-")
    chats = [json.loads(row)["messages"] for row in content.splitlines()]
    assert len(chats) == record.samples["train"] == 72  # A tenth of 80 is carved out, as for any method.
    for chat in chats:
        assert [message["role"] for message in chat] == ["system", "user", "assistant"]
        assert chat[2]["content"] == ("good" if "superb" in chat[1]["content"] else "bad")
    (job,) = script.jobs.values()
    assert (job["model"], job["seed"], job["hyperparameters"]) == ("some-model", 0, {"n_epochs": 3})
    asked = script.paths("POST", "/v1/chat")
    assert {call.body["model"] for call in asked} == {job["fine_tuned_model"]}
    assert all("assistant" not in {m["role"] for m in call.body["messages"]} for call in asked)


def test_tokens_hours_and_price_are_recorded(line: Any, script: Script, run_cli: Any, results: Path) -> None:
    assert run_cli(*line("method=hosted", "hosted.consent=true", *PRICES))[0] == 0
    (record,) = records(results)
    figures, (job,) = record.efficiency, script.jobs.values()
    asked = len(script.paths("POST", "/v1/chat"))
    assert figures["hosted_questions"] == asked > 30
    assert figures["hosted_trained_tokens"] == job["trained_tokens"] > 0
    assert figures["hosted_job_h"] == 2.0
    assert (figures["hosted_input_tokens"], figures["hosted_output_tokens"]) == (10 * asked, 2 * asked)
    price = (3 * job["trained_tokens"] + 10 * asked + 2 * 2 * asked) / 1e6
    assert figures["hosted_price"] == pytest.approx(price)
    assert any(f"cost {price:.4g} EUR" in note for note in record.footnotes)
    status, out, error = run_cli("report", f"results_dir={results}")
    assert status == 0, error
    assert "### sst2 (accuracy), hosted" in out
    assert "| hosted | 100.0 |" in re.sub(" +", " ", out)


def test_without_a_price_there_is_none(line: Any, run_cli: Any, results: Path) -> None:
    assert run_cli(*line("method=hosted", "hosted.consent=true", "hosted.price_input=1"))[0] == 0
    assert records(results)[0].efficiency["hosted_price"] is None


def test_prompting_shows_answered_examples_and_starts_no_job(
    line: Any, script: Script, run_cli: Any, results: Path
) -> None:
    prompted = line("method=prompted", "hosted.consent=true", "method.args.shots=0,3", "-m")
    assert run_cli(*prompted)[0] == 0
    assert not script.files
    assert not script.jobs
    by_length: dict[int, set[str]] = {}
    for call in script.paths("POST", "/v1/chat"):
        chat = call.body["messages"]
        by_length.setdefault(len(chat), set()).add(json.dumps(chat[:-1]))
    assert {length: len(starts) for length, starts in by_length.items()} == {2: 1, 8: 1}
    shown = json.loads(by_length[8].pop())
    assert [m["role"] for m in shown] == ["system", *("user", "assistant") * 3]
    assert len({record.key for record in records(results)}) == 2


def test_nothing_is_sent_without_consent(line: Any, script: Script, run_cli: Any) -> None:
    status, _, error = run_cli(*line("method=hosted"))
    assert status == 2
    assert "hosted.consent" in error
    status, out, _ = run_cli(*line("method=hosted", "dry_run=true", *PRICES))
    assert status == 0
    assert "a training file of 72 rows" in out
    assert re.search(r"\d+ questions \(\d+ bytes\)", out)
    assert re.search(r"about 0\.\d\d EUR", out)
    assert not script.calls


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["method=hosted", "hosted.model=null"], "hosted.model"),
        (["method=hosted", "hosted.base_url=https://me:word@some/v1"], "hosted.base_url"),
        (["method=hosted", "hosted.key_variable=HOME"], "hosted.key_variable"),
        (
            ["method=hosted", "hosted.base_url=https://some.invalid/v1", "hosted.key_variable=NOBODYS_KEY"],
            "NOBODYS_KEY",
        ),
        (["method=hosted", "recipe.max_steps=3"], "recipe.max_steps"),
        (["method=hosted", "hosted.concurrency=0"], "hosted.concurrency"),
        (["method=hosted", "hosted.nonsense=0"], "hosted.nonsense"),
        (["method=hosted", "hardware.devices=2", "hardware.strategy=ddp"], "hardware.devices"),
        (["method=hosted", "model=tiny_bert"], "model=hosted"),
        (["method=lora"], "method=hosted"),
        (["method=prompted", "method.args.shots=-1"], "method.args.shots"),
        (["method=prompted", "formulation=head"], "formulation"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_sent(
    line: Any, script: Script, run_cli: Any, more: list[str], message: str
) -> None:
    status, _, error = run_cli(*line("hosted.consent=true", *more))
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not script.calls


def test_requests_are_bounded_and_tried_again(line: Any, script: Script, run_cli: Any, results: Path) -> None:
    script.delay_s, script.fail = 0.02, {"POST /v1/chat": [429, 503], "POST /v1/files": [500]}
    script.fail["POST /v1/fine_tuning/jobs"] = [503]
    assert run_cli(*line("method=hosted", "hosted.consent=true", "hosted.concurrency=3"))[0] == 0
    assert 1 < script.most_at_once <= 3
    assert (len(script.files), len(script.jobs)) == (1, 1)
    assert records(results)[0].score == 1.0


def test_what_was_uploaded_is_deleted_when_told_so(line: Any, script: Script, run_cli: Any) -> None:
    run = ["method=hosted", "hosted.consent=true"]
    assert run_cli(*line(*run))[0] == 0
    assert not script.deleted
    assert run_cli(*line(*run, "hosted.delete=all", "overwrite=true"))[0] == 0
    assert len(script.jobs) == 2
    assert script.deleted == ["file-1", "ft:some-model:ftjob-1"]


def test_a_job_that_failed_is_a_failed_run_and_another_is_made(
    line: Any, script: Script, run_cli: Any, results: Path
) -> None:
    script.ending = "failed"
    status, out, error = run_cli(*line("method=hosted", "hosted.consent=true"))
    assert status == 1
    assert "the file is bad" in out + error
    script.ending = "succeeded"
    assert run_cli(*line("method=hosted", "hosted.consent=true"))[0] == 0
    assert len(script.jobs) == 2


def test_a_few_refused_questions_are_wrong_and_many_are_a_failure(
    line: Any, script: Script, run_cli: Any, results: Path
) -> None:
    right, refused = script.answer, [0]

    def answer(chat: list[dict[str, str]]) -> str | None:
        refused[0] -= 1
        return None if refused[0] >= 0 else right(chat)

    script.answer, refused[0] = answer, 20
    status, out, error = run_cli(*line("method=prompted", "hosted.consent=true"))
    assert status == 1
    assert "refused 20 of" in out + error
    refused[0] = 2
    assert run_cli(*line("method=prompted", "hosted.consent=true"))[0] == 0
    record = next(record for record in records(results) if record.status == "completed")
    assert 0.9 <= record.score < 1.0
    assert any("refused 2 questions" in note for note in record.footnotes)


def test_the_key_is_nowhere(
    line: Any, script: Script, run_cli: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, error = run_cli(*line("method=hosted", "hosted.consent=true"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "wrong")
    wrong = run_cli(*line("method=hosted", "hosted.consent=true", "seed=1"))
    assert (status, wrong[0]) == (0, 1)
    assert KEY not in "".join([out, error, *wrong[1:]])
    written = [file for file in results.rglob("*") if file.is_file()]
    assert len(written) > 3
    assert not [file for file in written if KEY.encode() in file.read_bytes()]


def test_predictions_have_the_texts(line: Any, run_cli: Any, results: Path) -> None:
    assert run_cli(*line("method=prompted", "hosted.consent=true"))[0] == 0
    (file,) = (results / "predictions").rglob("*.parquet")
    table = pq.read_table(file).to_pylist()
    assert {row["answer"] for row in table} == {"GOOD", "bad"}
    assert [row["row"] for row in table] == list(range(40))


def test_where_the_server_is_makes_no_other_run() -> None:
    keys = ["hosted.base_url=http://a/v1", "hosted.price_input=2", "hosted.concurrency=9", "hosted.consent=true"]
    plain = ["model=hosted", "method=hosted", "hosted.model=m"]
    same, other = [*plain, *keys], [*plain, "hosted.model=n"]
    assert identity.identity(composed(same)) == identity.identity(composed(plain))
    assert identity.identity(composed(other)) != identity.identity(composed(plain))
    assert composed(["hosted.model=m"]).hosted is None
