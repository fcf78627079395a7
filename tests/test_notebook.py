"""A notebook that goes through the Python functions, in a kernel of its own."""

from pathlib import Path
from typing import Any

import pytest

import peftbench

nbclient = pytest.importorskip("nbclient", reason="the extra `test` isn't installed")
pytest.importorskip("ipykernel", reason="the extra `test` isn't installed")

CELLS = [
    "from peftbench.api import curve, frame, predictions, report, run, sweep",
    """tiny = dict(model="tiny_bert", dataset="demo", measure=False,
            recipe={"max_steps": 60, "train_samples": 64, "eval_samples": 16})""",
    'made = run(method="lora", **tiny)\nmade.score',
    'len(sweep(method=["lora", "bitfit"], seed=[0, 1], **tiny))',
    'frame("results")[["method", "seed", "score"]]',
    'sorted(report("results")["method"])',
    "len(curve(made)), len(predictions(made))",
    """from peftbench.errors import ConfigError
try:
    run(method="lorra", **tiny)
except ConfigError as error:
    print(error)""",
]


def outputs(cell: Any, kind: str) -> str:
    """All that a cell showed as this kind of data, or printed."""
    parts = [o["text"] for o in cell.outputs if o.output_type == "stream"] if kind == "text/plain" else []
    return "".join([*parts, *(o["data"].get(kind, "") for o in cell.outputs if "data" in o)])


@pytest.mark.filterwarnings("default")  # The client's libraries have their own.
def test_a_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(Path(peftbench.__file__).parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = Watching(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    scored, swept, framed, board, sizes, wrong = map(lambda cell: outputs(cell, "text/plain"), cells[2:])
    assert 0 <= float(scored.splitlines()[-1]) <= 1
    assert swept.rstrip().endswith("4")
    assert "bitfit" in framed
    assert board.endswith("['bitfit', 'lora']")
    assert sizes.startswith("(")
    assert "method=lorra: no such method" in wrong
    assert (tmp_path / "results" / "leaderboard.html").is_file()
    # The bar of a run, and the table of a sweep: drawn anew in one place, and gone at the end.
    assert any("lora · tiny_bert · demo · seed 0" in drawn for drawn in client.drawn)
    assert any("runs completed" in drawn for drawn in client.drawn)
    assert all("ipywidgets" not in outputs(cell, "text/plain") for cell in cells)


class Watching(nbclient.NotebookClient):  # type: ignore[misc]
    """Keeps what outputs were replaced by while cells ran."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        self.drawn: list[str] = getattr(self, "drawn", [])
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.drawn.append(msg["content"]["data"].get("text/plain", ""))
        return super().process_message(msg, cell, cell_index)
