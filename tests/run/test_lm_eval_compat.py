"""What we call of lm-eval beside its documented interface is still there."""

import importlib.metadata
import inspect
from importlib import import_module

import pytest

from peftbench.run import lm_eval_compat

pytest.importorskip("lm_eval")

#: By module and name: the arguments that we give.
USED = {
    ("lm_eval.tasks._yaml_loader", "load_yaml"): ["path"],
    ("lm_eval.tasks", "TaskManager"): ["include_path", "include_defaults"],
    ("lm_eval.api.task", "ConfigurableTask"): ["config"],
    ("lm_eval.evaluator", "evaluate"): ["lm", "task_dict", "bootstrap_iters", "log_samples"],
    ("lm_eval.models.huggingface", "HFLM"): [
        *("pretrained", "backend", "tokenizer", "add_bos_token", "batch_size", "max_length", "softmax_dtype"),
    ],
    ("datasets.table", "InMemoryTable"): ["table"],
}


@pytest.mark.parametrize(("module", "name"), USED)
def test_what_is_called_is_there_and_takes_what_it_is_given(module: str, name: str) -> None:
    here = importlib.metadata.version("lm_eval")
    changed = f"lm_eval {here}: {module}.{name} isn't as in {lm_eval_compat.WRITTEN_FOR}; see run/lm_eval_compat.py"
    called = getattr(import_module(module), name, None)
    assert called is not None, changed
    assert set(USED[module, name]) <= inspect.signature(called).parameters.keys(), changed


def test_the_index_of_tasks_says_where_a_task_is_written() -> None:
    from pathlib import Path

    import lm_eval
    from lm_eval.tasks import TaskManager

    folder = Path(str(lm_eval.__file__)).parent / "tasks" / "mmlu" / "default"
    index = TaskManager(include_path=folder, include_defaults=False).task_index
    assert Path(index["mmlu_anatomy"].yaml_path).is_file()
