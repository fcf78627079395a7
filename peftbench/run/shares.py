"""The processor's time that each of several models had, which take turns."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn

from peftbench.results import quality, scored
from peftbench.system import load


class Shares:
    """Adds up what each model's forward passes used. What others took is of all the time since this was made: the
    kernel counts too coarsely to tell it apart by turns.

    Args:
        models: by the suffix of their figures' names; "" is the trained one.
    """

    def __init__(self, models: dict[str, nn.Module]) -> None:
        self._since = load.counters()
        #: By model the seconds of this process's threads, and of wall time.
        self._used = {id(model): [0.0, 0.0] for model in models.values()}
        self._models = models

    @contextlib.contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Counts the time while it is entered as the model's."""
        own, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            used = self._used[id(model)]
            used[0] += time.process_time() - own
            used[1] += time.perf_counter() - wall

    def figures(self) -> dict[str, float | None]:
        """`inference_..._fraction` of `efficiency`; None for a variant that isn't there."""
        threads = 1 if torch.cuda.is_initialized() else torch.get_num_threads()
        figures = dict.fromkeys(scored.SHARES) | quality.figures(
            "inference", self._since.until(load.counters()), threads
        )
        for variant, model in self._models.items():
            own, wall = self._used[id(model)]
            figures[f"inference_own_cpu{variant}_fraction"] = own / (wall * threads) if wall else None
        return figures
