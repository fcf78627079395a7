"""How far a measured time or rate can be believed: how much of the processor it had.

`<what>_own_cpu_fraction`     processor time of the run's own processes / (wall time x threads)
`<what>_others_cpu_fraction`  the share of the processor that others took
`<what>_cores_fraction`       the share of the cores that the run's threads need which others left to them

of `efficiency`, where `<what>` is `train` or `inference`; null where the kernel has no such counters.
"""

from peftbench.results.records import RunRecord
from peftbench.system.load import Load

#: Below this share of its cores a run was made on a busy machine. A rate falls at least as far as what it had, so that
#: one tenth is what a rate is wrong by before it is marked; a quiet machine's own services take a few hundredths.
QUIET = 0.9

_RATES = ("train_samples_per_s", "train_tokens_per_s")
#: By the share of its cores that something had while it was timed, how the names in `efficiency` begin of the figures
#: that a busy machine makes worthless.
_TIMED = {
    "train_cores_fraction": ("train_time_s", "evaluation_during_training_s", *_RATES),
    "inference_cores_fraction": ("inference_samples_per_s", "inference_latency_ms"),
}


def figures(what: str, load: Load, threads: int) -> dict[str, float | None]:
    """The entries of a record's `efficiency` on what had this load.

    Args:
        what: "train" or "inference".
        threads: that compute.
    """
    return {
        f"{what}_own_cpu_fraction": load.own_fraction(threads),
        f"{what}_others_cpu_fraction": load.others_fraction(),
        f"{what}_cores_fraction": load.cores_fraction(threads),
    }


def is_busy(cores_fraction: float | None) -> bool:
    """True if something that had this share of its cores was made on a busy machine. False where it isn't known."""
    return cores_fraction is not None and cores_fraction < QUIET


def busy(record: RunRecord) -> frozenset[str]:
    """The figures of a record's `efficiency` that were measured on a busy machine: they are marked, and nothing is
    compared by them. Rates that are medians over quiet windows aren't among them, nor are ratios of what took turns."""
    efficiency = record.efficiency or {}
    timed = [figures for share, figures in _TIMED.items() if is_busy(efficiency.get(share))]
    if not timed:
        return frozenset()
    saved = _RATES if efficiency.get("train_quiet_windows") else ()
    begins = tuple(name for figures in timed for name in figures if name not in saved)
    return frozenset(name for name in efficiency if name.startswith(begins))
