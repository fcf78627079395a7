"""Drafts: records from the moment that the score is there, and what is said where the rest never comes.

A draft is a whole record that names in its environment what is outstanding.
"""

from collections.abc import Sequence
from dataclasses import replace

from peftbench.results.records import RunRecord

#: What may be added to a score, as footnotes name it.
BERTSCORE, FORGETTING, SPEED = "BERTScore", "what it forgot", "inference speed"
BEYOND = "what is beyond the score"
MEMORY = "memory by part"
#: What costs a moment, changes nothing, and is not worth evaluating once more for.
MEASUREMENTS = (SPEED, MEMORY)
#: The measured figures of inference: as trained, merged, and of the base.
SPEEDS = tuple(
    f"inference_{figure}{variant}" for figure in ("samples_per_s", "latency_ms") for variant in ("", "_merged", "_base")
)
#: A training step's cost, in forward passes of the plain base.
STEP = "train_step_base_forwards"
#: How much of the processor inference had, as `results.quality` defines it.
SHARES = tuple(
    f"inference_{share}_fraction" for share in ("own_cpu", "own_cpu_merged", "own_cpu_base", "others_cpu", "cores")
)
#: All that is measured beside inference speed once the score is there.
MEASURED = (*SPEEDS, *SHARES, STEP)
_MARK = "outstanding"


def draft(record: RunRecord, outstanding: Sequence[str]) -> RunRecord:
    """The record, marked with what is outstanding; unmarked if nothing is."""
    environment = {name: value for name, value in record.environment.items() if name != _MARK}
    if outstanding:
        environment[_MARK] = list(outstanding)
    return replace(record, environment=environment)


def outstanding(record: RunRecord) -> list[str]:
    """The measurements that are still to be added to a draft; empty for a whole record."""
    return list(record.environment.get(_MARK, []))


def resumable(record: RunRecord) -> bool:
    """True if a stopped run is resumed for what its draft lacks: for measurements that the configuration asks for by
    name. Not for speeds and memory, which would cost the evaluation once more."""
    return bool(set(outstanding(record)) - set(MEASUREMENTS))


def settled(record: RunRecord, why: str) -> RunRecord:
    """Turn a draft into a whole record, with a footnote for each measurement that is missing.

    Args:
        why: the run ended before it, in a word.
    """
    notes = [unmeasured(record.config["method"]["name"], what, why) for what in outstanding(record)]
    return draft(replace(record, footnotes=[*record.footnotes, *notes]), [])


def unmeasured(method: str, what: str, why: str) -> str:
    """The footnote for a measurement that was to be made and wasn't."""
    return f"{method}: {what} wasn't measured ({why})"
