"""A record from the moment that its score is there: what is still to be added, and what is said where that never comes.

A draft is a whole record that names in its environment what is outstanding. Free of torch.
"""

from collections.abc import Sequence
from dataclasses import replace

from peftbench.records import RunRecord

#: What may be added to a score, as footnotes name it.
BERTSCORE, FORGETTING, SPEED = "BERTScore", "what it forgot", "inference speed"
#: The measured figures of inference: as trained, merged, and of the base.
SPEEDS = tuple(
    f"inference_{figure}{variant}" for figure in ("samples_per_s", "latency_ms") for variant in ("", "_merged", "_base")
)
_MARK = "outstanding"


def draft(record: RunRecord, outstanding: Sequence[str]) -> RunRecord:
    """The record with a mark of what is outstanding; without one where nothing is."""
    environment = {name: value for name, value in record.environment.items() if name != _MARK}
    if outstanding:
        environment[_MARK] = list(outstanding)
    return replace(record, environment=environment)


def outstanding(record: RunRecord) -> list[str]:
    """What is still to be added to a draft; nothing of a record that is whole."""
    return list(record.environment.get(_MARK, []))


def resumable(record: RunRecord) -> bool:
    """Whether a stopped run goes on for what its draft lacks: what the configuration asks for by name. Speeds are not:
    they'd cost the evaluation once more."""
    return bool(set(outstanding(record)) - {SPEED})


def settled(record: RunRecord, why: str) -> RunRecord:
    """A draft as the record of a run that comes to nothing more, with a footnote for each thing that is missing.

    Args:
        why: it ended, in a word.
    """
    notes = [unmeasured(record.config["method"]["name"], what, why) for what in outstanding(record)]
    return draft(replace(record, footnotes=[*record.footnotes, *notes]), [])


def unmeasured(method: str, what: str, why: str) -> str:
    """The footnote for what was to be measured and wasn't."""
    return f"{method}: {what} wasn't measured ({why})"
