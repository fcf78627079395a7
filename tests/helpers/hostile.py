"""Records that somebody else wrote: a record with a value in every field, and texts in the place of each."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord

#: What stands in the place of a value, as JSON text.
HOSTILE = {
    "null": "null", "true": "true", "text": '"x"', "empty text": '""', "number": "1.5", "below 0": "-1", "list": "[]",
    "list of lists": "[[[[]]]]", "list of numbers": "[1]", "object": "{}", "object of objects": '{"a": {"": {}}}',
    "400 digits": "9" * 400, "6000 digits": "9" * 6000, "1e308": "1e308", "1e999": "1e999", "-1e18": "-1e18",
    "1e18 as a whole": "1" + 18 * "0", "NaN": "NaN", "Infinity": "-Infinity", "surrogate": '"\\ud800"',
    "zero byte": '"\\u0000"', "escape": '"\\u001b[2J\\u202e\\u0007\\n# heading"', "markdown": '"|`<script>](x)*"',
    "formula": '"=cmd|\' /C calc\'!A0"', "markup": '"[/red][link=x]"', "path": '"../../../../etc/passwd"',
    "long": '"' + "x" * 1_000_000 + '"', "deep": "[" * 500 + "]" * 500, "very deep": '{"a":' * 5000 + "1" + "}" * 5000,
}  # fmt: skip


def whole(config: RunConfig) -> RunRecord:
    """A record with a value in every field."""
    answers = {"n": 5, "cut": 1, "parts": {"a": {"n": 5}}, "data_fingerprint": "q", "before": 0.5, "after": 0.25,
               "difference": -0.25, "difference_se": 0.1}  # fmt: skip
    split = {"values": {"accuracy": 0.5}, "score": 0.5, "loss": 0.7, "n": 9, "truncated": 0, "directions": {"a": "max"}}
    record = RunRecord(
        key="",
        status="completed",
        config=identity.description(config),
        metrics={"train": split, "selection": split, "validation": split},
        score=0.5,
        selected_step=3,
        params={"trainable": 10, "adapter": 8, "head": 2, "total": 100},
        efficiency={
            **{"peak_memory_bytes": 5, "train_samples_per_s": 20.0, "run_time_s": 9.0, "train_time_s": 5.0},
            **{"train_cores_fraction": 1.0, "inference_cores_fraction": 0.5, "memory_parts_bytes": {"weights": 5}},
        },
        samples={"train": 80, "examples": 80, "truncated": 0},
        learnt={"soft_prompt": [[{"token": "a", "similarity": 0.5}]]},
        changed=["method.lr=0.1"],
        environment={
            **{"data_fingerprint": "d", "model_fingerprint": "m", "inputs": {"teacher": "t"}, "cpu": "c", "gpu": ["g"]},
            **{"packages": {"torch": "2"}, "git_commit": "abc", "git_dirty": False, "cpu_count": 2, "threads": 1},
            **{"started_unix_s": 1, "jobs_beside": 1, "questions": {"mmlu": "q"}},
        },
        forgetting={"mmlu": answers},
        evaluation={
            "calibration": {"n": 5, "ece": 0.1, "brier": 0.2, "selective_accuracy_50": 1.0, "temperature": 1.5},
            "robustness": {"case": {"n": 5, "changed": 2, "score": 0.4, "drop": 0.1, "drop_low": 0.0}},
            "slices": {"region": {"groups": {"north": {"n": 5, "score": 0.5}}, "worst": "north"}},
        },
        footnotes=["note"],
        tuning={"trials": 2, "tried": [{"values": {"lr": 0.1}, "score": 0.5}]},
        log="logs/x",
        log_tail=["a line"],
    )
    record.key = key_of(record)
    return record


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value is within a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*before, name)
        yield from paths(part, (*before, name))


def altered(value: Any, where: tuple[Any, ...], text: str) -> str:
    """JSON with a text in the place of one of its values."""
    changed = copy.deepcopy(value)
    part = changed
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = "@here@"
    return json.dumps(changed).replace('"@here@"', text)


def renamed(value: Any, where: tuple[Any, ...], text: str) -> str | None:
    """JSON with a text for the name of one of its values."""
    if not text.startswith('"') or not isinstance(where[-1], str):
        return None
    changed = copy.deepcopy(value)
    part = changed
    for name in where[:-1]:
        part = part[name]
    part["@here@"] = part.pop(where[-1])
    return json.dumps(changed).replace('"@here@"', text)


def check_shown(*texts: str) -> None:
    """What a terminal would act on is not in what is shown."""
    for text in texts:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        text.encode()
