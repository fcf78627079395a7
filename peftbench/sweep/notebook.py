"""What a notebook shows while runs go: one output of the cell, drawn anew again and again.

rich itself would need ipywidgets there, in the kernel and in the page.
"""

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import Progress

#: Columns of text, and seconds between two drawings of a bar.
_WIDTH, _EVERY_S = 100, 0.25


class Screen:
    """An output of the cell that runs. Empty before it begins and after it ends."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __enter__(self) -> "Screen":
        from IPython.display import display  # There wherever there is a notebook.

        self._handle = display(_formats(""), raw=True, display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.update("")

    def update(self, shown: RenderableType, *, refresh: bool = True) -> None:
        """Show this in place of what was shown; `refresh` is there for rich's `Live`, which is called alike."""
        self._handle.update(_formats(shown), raw=True)


def _formats(shown: RenderableType) -> dict[str, str]:
    """A picture in words as text and as HTML."""
    console = Console(file=io.StringIO(), width=_WIDTH, record=True, force_terminal=True, force_jupyter=False)
    console.print(shown)
    html = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
    return {"text/plain": console.export_text().rstrip("\n"), "text/html": html}


@contextlib.contextmanager
def drawn(bar: Progress) -> Iterator[Progress]:
    """Draw a bar while this lasts: on a terminal as rich does, in a notebook as a `Screen`."""
    if not bar.console.is_jupyter:
        with bar:
            yield bar
        return
    stop = threading.Event()
    with Screen() as screen:

        def draw() -> None:
            while not stop.wait(_EVERY_S):
                screen.update(bar.get_renderable())

        thread = threading.Thread(target=draw, daemon=True)
        thread.start()
        try:
            yield bar
        finally:
            stop.set()
            thread.join()
