"""Estimates of many runs, shared out."""

from typing import Any

import pytest

from peftbench.run.estimate import cells
from peftbench.sweep.cells import plan


def told(methods: str) -> dict[str, Any]:
    """What the estimate of some methods emits at its end."""
    runs = plan(["dataset=demo", "model=tiny_bert", f"method={methods}"], multirun=True).cells
    events: list[dict[str, Any]] = []
    cells.estimate([(config, {"length": 16}) for config in runs], events.append)
    *counted, last = events
    assert [event["number"] for event in counted] == list(range(1, len(runs) + 1))
    result: dict[str, Any] = last["result"]
    return result


def test_on_several_cores_as_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = "lora,majority,bitfit"
    alone = told(methods)["cells"]
    started: list[int] = []
    whole = cells.DataLoader

    def loader(*arguments: Any, num_workers: int, **more: Any) -> Any:
        started.append(num_workers)
        return whole(*arguments, num_workers=num_workers, **more)

    monkeypatch.setattr(cells, "DataLoader", loader)
    monkeypatch.setattr(cells, "_MANY", 2)
    monkeypatch.setattr(cells.load, "usable_cores", lambda: {0, 1})
    shared = told(methods)["cells"]
    assert started == [2]
    assert [cell.get("peak_bytes") for cell in shared] == [cell.get("peak_bytes") for cell in alone]
    assert [cell.get("parts") for cell in shared] == [cell.get("parts") for cell in alone]
    assert "trains nothing" in shared[1]["refused"]
