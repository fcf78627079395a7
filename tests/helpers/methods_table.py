"""`--methods-table=FILE`: what the tests of methods found, as a table of method and model."""

import datetime
import platform
from pathlib import Path

import peft
import pytest
import torch
import transformers

_TEST = "test_invariants["
_HEAD = """\
# Which method works on which architecture

{date}, peft {peft}, transformers {transformers}, torch {torch}, Python {python}; made by

```bash
python -m pytest tests/methods/test_methods.py -k invariants -m "slow or not slow" --methods-table=results/methods.md
```

pass: built, trained, saved and loaded on a tiny random model of that architecture with a classification head (T5 and
BART: label words scored). On bert, llama, gpt2 and t5 all promises of the method's file as well (docs/methods.md). n/a:
can't be applied, for the reason of that number.
"""


class MethodsTable:
    """Collects the outcomes of `test_invariants` and writes them down when all tests are through."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[tuple[str, str], str] = {}
        self.reasons: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" or _TEST not in report.nodeid:
            return
        method, _, model = report.nodeid.partition(_TEST)[2].rstrip("]").partition("-tiny_")
        reason = dict(report.user_properties).get("not_applicable")
        outcome = "pass" if report.passed else "FAIL"
        if reason is not None and report.passed:
            wording = str(reason).partition(": ")[2] or str(reason)
            wording = wording.replace(f"tiny_{model}", "it").partition(". You can")[0]
            self.reasons[method, model] = wording
        self.found[method, model] = outcome

    def pytest_sessionfinish(self) -> None:
        numbers: dict[str, int] = {}  # In the table's order, whichever test was through first.
        for cell, reason in sorted(self.reasons.items()):
            self.found[cell] = f"n/a {numbers.setdefault(reason, len(numbers) + 1)}"
        methods, models = (list(dict.fromkeys(sorted(names))) for names in zip(*self.found, strict=True))
        lines = [f"| method | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
        lines += [f"| {a} | {' | '.join(self.found.get((a, b), '') for b in models)} |" for a in methods]
        head = _HEAD.format(
            date=datetime.date.today(),
            peft=peft.__version__,
            transformers=transformers.__version__,
            torch=torch.__version__,
            python=platform.python_version(),
        )
        notes = "\n".join(f"{number}. {reason}" for reason, number in numbers.items())
        table = "\n".join(lines)
        self.file.write_text(f"{head}\n{table}\n\n{notes}\n")
