"""The key that identifies a run: a hash of all that decides its result."""

from typing import Any

from peftbench.config import formulations
from peftbench.config.identity import description, identity
from peftbench.config.types import RunConfig
from peftbench.system import fingerprint


def identify(config: RunConfig) -> str:
    """20 hex digits that tell runs apart on one machine: as `run_key`, but without looking at data and model."""
    return fingerprint.of_json(identity(config))[:20]


#: By formulation. Raised when the meaning of its scores changes: an older record then isn't "the same run" any more.
#: text 2: a prompt in evaluation doesn't depend on the right answer's length.
PROTOCOL = {"head": 1, "verbaliser": 1, "text": 2}


def protocol(config: dict[str, Any]) -> int:
    """The number of what a run's scores mean today: its formulation's, and one more where its rows are read otherwise
    than in the first version. `config`: as a record keeps it."""
    dataset = config.get("dataset") or {}
    marks_moved = any(_marks_moved(part) for part in dataset.get("parts") or [dataset])
    return PROTOCOL.get(formulations.described(config), 1) + marks_moved


def _marks_moved(dataset: dict[str, Any]) -> bool:
    """True if a span pair is read otherwise than in the first version: its words are looked for by number, which wasn't
    compared with the text then, or both stand in one text, where they may nest."""
    spans = dataset.get("spans") or []
    return any(span.get("word") for span in spans) or len({span["text"] for span in spans}) < len(spans)


def run_key(config: RunConfig, *, data: str, model: str, inputs: dict[str, str] | None = None) -> str:
    """The key of a run: 20 hex digits of a hash over what decides its result.

    Args:
        data: the data's fingerprint.
        model: the checkpoint's fingerprint.
        inputs: fingerprints of what the method reads besides, by name.
    """
    meaning = protocol(description(config))
    decides = {"config": identity(config), "data": data, "model": model, "protocol": meaning}
    if inputs:
        decides["inputs"] = inputs
    return fingerprint.of_json(decides)[:20]
