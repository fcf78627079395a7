"""Tiny untrained models in a folder of checkpoints, under the hub names of models that users have: an adapter of one of
them can be used again, which one of a model that starts at random can't."""

from pathlib import Path

from peftbench.run.prepared import prepare
from tests.helpers.built import checkpoint
from tests.helpers.composed import composed, written

#: By the tiny model, the model in whose place it stands: of the same architecture.
STANDS_FOR = {"tiny_bert": "bert_base", "tiny_t5": "t5_small", "tiny_llama": "llama_1b"}


def make(root: Path, data_root: Path, tiny: str, *more: str, formulation: str = "auto") -> list[str]:
    """The words that choose a tiny model's stand-in below `root`, which is `model_root`; made unless it is there, with
    the output layer that the formulation needs.

    Args:
        more: overrides of the tiny model.
    """
    model = STANDS_FOR[tiny]
    folder = root / Path(written("model")[model]["checkpoint"]).name
    if not folder.exists():
        words = [f"model={tiny}", "dataset=sst2", "method=full", f"data_root={data_root}", f"results_dir={root / 'no'}"]
        checkpoint(prepare(composed([*words, *more, f"formulation={formulation}"])), folder)
    return [f"model={model}", f"model_root={root}"]
