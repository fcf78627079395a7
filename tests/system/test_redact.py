"""No value that is a secret goes out, however it is escaped, and no ordinary word is masked."""

import html
import json
import logging
import shlex
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.results import activity, announcements
from peftbench.results.store import ResultStore
from peftbench.run.training import wandb_sink
from peftbench.run.training.sinks import Ending
from peftbench.system import process_child, redact

AWKWARD = "p\"w\\d \n<é>'&%x"
ESCAPES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "json_unicode": lambda value: json.dumps({"a": [value]}, ensure_ascii=False),
    "json_in_json": lambda value: json.dumps(json.dumps(value)),
    "repr": repr,
    "html": html.escape,
    "address": lambda value: urllib.parse.quote(value, safe=""),
    "form": urllib.parse.quote_plus,
    "shell": shlex.quote,
    "one_line": lambda value: " ".join(value.split()),
}


@pytest.fixture(autouse=True)
def _no_saved_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize("how", ESCAPES)
def test_a_value_is_known_in_every_form(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("PGPASSWORD", AWKWARD)
    clean = redact.redact(f"<{ESCAPES[how](AWKWARD)}>")
    assert "***" in clean
    assert not any(part in clean for part in ("p", "w", "é", "x"))


NAMES = """PGPASSWORD DB_PASS MYSQL_PWD GITHUB_PAT MYAPIKEY OPENAI_API_KEY SSHPASSPHRASE X_PASSPHRASE HF_TOKENS
BASIC_AUTH AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID HF_TOKEN HUGGING_FACE_HUB_TOKEN PASSWORD_2 SSH_PRIVATE_KEY api_key
TOKEN""".split()
PLAIN_NAMES = """PWD OLDPWD PATH MONKEY TOKENIZERS_PARALLELISM XAUTHORITY GIT_AUTHOR_NAME COMPASS BYPASS PATTERN
KEYBOARD SSH_AUTH_SOCK SSH_ASKPASS""".split()


@pytest.mark.parametrize("name", [*NAMES, *PLAIN_NAMES])
def test_variables_are_secret_by_their_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "zq9!Zq9!zq9")
    assert redact.redact("zq9!Zq9!zq9") == ("***" if name in NAMES else "zq9!Zq9!zq9")


@pytest.mark.parametrize("value", ["", "ab", "true", "false", "1", "123456", "0.0001", "secret", "offline"])
def test_ordinary_words_and_numbers_stay(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_TOKEN", value)
    text = '{"overwrite": true, "n": 123456, "lr": 0.0001, "about": "offline secret cab false"}'
    assert redact.redact(text) == text


def test_short_secrets_are_replaced_whole_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    monkeypatch.setenv("A_KEY", "required")
    monkeypatch.setenv("B_KEY", "12345678")
    assert redact.redact("hunter2 hunter25 prerequired2 x12345678 12345678.") == (
        "*** hunter25 prerequired2 x12345678 ***."
    )
    monkeypatch.setenv("KEY_FILE_KEY", str(tmp_path))
    assert redact.redact(f"{tmp_path}/records") == f"{tmp_path}/records"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://tok3n@host/x", "https://***@host/x"),
        ("https://me:p@ss:w@host/x", "https://***@host/x"),
        ("postgres://u:p@h:5/d", "postgres://***@h:5/d"),
        ("http://h/x?a=1&api_key=abc&b=2", "http://h/x?a=1&api_key=***&b=2"),
        ("http://h/x?token=abc#c", "http://h/x?token=***#c"),
        ("http%3A//h%3Faccess_token%3Dabc", "http%3A//h%3Faccess_token%3D***"),
        ("+logger.password=hunter2 seed=1", "+logger.password=*** seed=1"),
        ("api_key='a b' x", "api_key=*** x"),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer ***"),
        ("a hf_abcdefghijklmnopqrstuvwx", "a ***"),
    ],
)
def test_places_that_hold_secrets(text: str, clean: str) -> None:
    assert redact.redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "see https://huggingface.co/a, or mail me@x.y",
        "https://h/?mail=a@b",
        "http://h/?author=me&monkey=2",
        "key=0123abcd",
        "train_tokens_per_s=4 max_new_tokens=8 dataset.pad_token=x",
        "git@github.com:a/b",
    ],
)
def test_places_that_hold_none(text: str) -> None:
    assert redact.redact(text) == text


def test_saved_tokens_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf-first-token\n")
    (tmp_path / "hf" / "stored_tokens").write_text("[work]\nhf_token = hf-second-token\n")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password wandb-third-token\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    redact._saved.cache_clear()
    assert redact.redact("hf-first-token hf-second-token wandb-third-token") == "*** *** ***"
    redact._saved.cache_clear()


def test_data_is_redacted_before_it_is_written(monkeypatch: pytest.MonkeyPatch, train, results: Path) -> None:
    monkeypatch.setenv("DB_PASS", AWKWARD)
    record = train("recipe.max_steps=2")
    record.config["method"]["summary"] = f"a {AWKWARD} b"
    record.footnotes.append(AWKWARD)
    record.learnt = {AWKWARD: [AWKWARD]}
    from peftbench.config import compose

    config = compose.one(["model=tiny_bert", "dataset=sst2", f"results_dir={results}"])
    written = json.loads(ResultStore(results).put(config, record).read_text())
    assert written["config"]["method"]["summary"] == "a *** b"
    assert written["footnotes"][-1] == "***"
    assert written["learnt"] == {"***": ["***"]}


def test_what_is_tried_and_what_runs_is_redacted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DB_PASS", AWKWARD)
    ResultStore(tmp_path).put_tuning("k", {"search": {"a": [AWKWARD]}})
    assert json.loads((tmp_path / "trials" / "studies" / "k.json").read_text()) == {"search": {"a": ["***"]}}
    planned = announcements.ExpectedRecord(AWKWARD, "records/x.json", AWKWARD)
    line = f"method.summary={AWKWARD} +x.password=typed data_root=https://tok3n@host"
    with announcements.announced(tmp_path, announcements.SweepActivity(activity.me(), line, 0.0, 1, runs=[planned])):
        (file,) = (tmp_path / "live").iterdir()
        written = json.loads(file.read_text())
    assert written["line"] == "method.summary=*** +x.password=*** data_root=https://***@host"
    assert written["runs"][0]["name"] == "***"
    assert written["runs"][0]["record"] == "records/x.json"


def test_wandb_gets_no_secret(monkeypatch: pytest.MonkeyPatch, cell, tmp_path: Path, train) -> None:
    import wandb

    monkeypatch.setenv("DB_PASS", AWKWARD)
    monkeypatch.setenv("WANDB_MODE", "offline")
    sent: dict[str, Any] = {}

    def init(**given: Any) -> Any:
        sent.update(given)
        raise RuntimeError("enough")

    monkeypatch.setattr(wandb, "init", init)
    config = cell().config
    config.method.summary = AWKWARD
    with pytest.raises(RuntimeError, match="enough"):
        wandb_sink.wandb_logger(
            config=config, key="k", folder=tmp_path, project="p", entity=None, tags=[AWKWARD], timeout_s=1
        )
    assert sent["config"]["method"]["summary"] == "***"
    assert sent["tags"][-1] == "***"

    class Run:
        summary = sent

        def define_metric(self, *names: str, **options: Any) -> None: ...

        def finish(self, exit_code: int) -> None: ...

    record = train("recipe.max_steps=2")
    record.config["method"]["summary"] = AWKWARD
    run = wandb_sink.WandbRun(Run(), predictions=False, adapter=False)
    run.close(Ending("completed", record, error=f"by {AWKWARD}"))
    assert sent["record"]["config"]["method"]["summary"] == "***"
    assert sent["error"] == "by ***"


def test_errors_are_redacted_before_their_lines_are_joined(monkeypatch: pytest.MonkeyPatch, run_cli) -> None:
    monkeypatch.setenv("DB_PASS", AWKWARD)
    assert process_child.in_one_line(ValueError(f"can't log in by {AWKWARD}!")) == "ValueError: can't log in by ***!"
    status, _, err = run_cli("results_dir=https://tok3n@host", "model=nope")
    assert status == 2
    assert "tok3n" not in err


def test_what_others_log_is_redacted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DB_PASS", AWKWARD)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = logging.getLogRecordFactory()
    redact.install()
    try:
        try:
            raise ValueError(AWKWARD)
        except ValueError:
            logging.getLogger("x").exception("by %s and %d", AWKWARD, 3)
    finally:
        logging.setLogRecordFactory(before)
    assert "by *** and 3" in caplog.text
    assert "ValueError: ***" in caplog.text
    assert AWKWARD not in caplog.text


def test_hydras_files_and_saved_adapters_are_redacted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DB_PASS", AWKWARD)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({"base": AWKWARD, "r": 8}))
    (tmp_path / "README.md").symlink_to(outside := tmp_path / "outside")
    outside.write_text(AWKWARD)
    redact.folder(tmp_path, ("*.json", "*.md"))
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text()) == {"base": "***", "r": 8}
    assert outside.read_text() == AWKWARD


@pytest.mark.slow
def test_no_secret_of_a_line_reaches_hydras_files(
    monkeypatch: pytest.MonkeyPatch, tiny, run_cli, results: Path
) -> None:
    monkeypatch.setenv("DB_PASS", 'quoted"secret')
    words = ["hydra.output_subdir=.hydra", "hydra/job_logging=default", "method.summary='${oc.env:DB_PASS}'"]
    status, out, err = run_cli(*tiny("recipe.max_steps=2"), *words, "method.source='https://tok3n@host'")
    assert status == 0, err
    assert list(results.rglob("overrides.yaml"))
    texts = [file.read_bytes() for file in results.rglob("*") if file.is_file()]
    assert not any(b"tok3n" in text or b'quoted"sec' in text or b'quoted\\"sec' in text for text in texts)
    assert "tok3n" not in out + err


def test_unknown_users_home_is_one_line(run_cli) -> None:
    for key in ("results_dir", "data_root", "model_root"):
        status, _, err = run_cli("model=tiny_bert", f"{key}='~nosuchuser/x'")
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert f"{key}=~nosuchuser/x: there is no such user's home" in err
