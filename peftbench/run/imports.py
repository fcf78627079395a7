"""What a run imports, in two parts: what the check before the runs needs, and what only training and scoring do.

Imports that nothing needs are put off until something does. Nothing here may start a thread: a fork would lose it.
"""

import gc
import importlib.metadata
import importlib.util
import logging

from peftbench.system import lazy


def first() -> None:
    """Import what the plan of a command line waits for."""
    gc.disable()  # Nothing of what is imported is garbage, but looking for some takes a tenth of the time.
    try:
        _put_off()
        from peftbench.run import compiler

        with compiler.put_off():
            import lightning  # noqa: F401
            import transformers  # noqa: F401

            import peftbench.methods
            import peftbench.run.verify  # noqa: F401
    finally:
        _share()
        gc.enable()


def later() -> None:
    """Import what training and scoring need beside that, so that not every run does so by itself."""
    from peftbench.run import compiler

    compiler.load()
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401

    import peftbench.run.worker  # noqa: F401

    _share()


def _put_off() -> None:
    """Put off packages of which others want a name or two while they are imported."""
    # transformers wants one function of scipy's optimisers (.4 s); Lightning wants two classes of torchmetrics, which
    # would import all of its functions (1.8 s).
    lazy.package("scipy.optimize", {"linear_sum_assignment": "scipy.optimize._lsap"})
    lazy.package(
        "torchmetrics",
        {"Metric": "torchmetrics.utilities.checks", "MetricCollection": "torchmetrics.collections"},
        _logger=logging.getLogger("torchmetrics"),
        __version__=importlib.metadata.version("torchmetrics"),
    )


def _share() -> None:
    """Leave what was imported alone: forked processes share memory that neither side writes to, and the collector of
    garbage would."""
    gc.collect()
    gc.freeze()
