"""Runs on tiny models whose weights are exported, and what loads them in plain transformers and peft."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.store import ResultStore
from peftbench.run import export
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.reloading import reload
from peftbench.run.run import run
from peftbench.run.verify import problem_with
from tests.helpers import tiny_checkpoints
from tests.helpers.composed import composed, written
from tests.helpers.runs import NOT_HERE, TINY

FAMILIES = sorted({file["family"] for file in written("method").values()})
#: Families without a method that can be folded into the base's weights, and why.
NOT_MERGED = {
    "additive": "what is added isn't linear, or stands before the texts",
    "compression": "the student is a model of its own already",
    "full": "the model is whole already",
    "hybrid": "a part of each is additive",
}
#: Families whose methods are all this project's own tuners: `export` says so, and leaves nothing.
OWN = {"baseline", "hybrid"}
#: Methods whose answer depends on the batch that a text is padded in, so that no other program's need be the same.
OF_A_BATCH = {"lily": "mixes its experts by the mean over all positions, those of padding too"}

#: With its input embeddings as output layer, an untrained T5 says its start token again, which is an empty text.
TALKATIVE = ["+model.config.tie_word_embeddings=false"]


def candidates(family: str, *, merged: bool) -> Iterator[str]:
    """The methods of a family that may be exported so, by their files; those that read finished runs left out."""
    for name, file in sorted(written("method").items()):
        if file["family"] != family or file.get("inputs") or file["lr"] is None or name in {**NOT_HERE, **OF_A_BATCH}:
            continue
        if not merged or file.get("mergeable"):
            yield name


class Exporter:
    """Trains methods on tiny models for three steps, and exports what they leave.

    Args:
        models: a folder for the tiny models; data_root: SST-2's stand-in; results: a folder for the runs.
    """

    def __init__(self, models: Path, data_root: Path, results: Path) -> None:
        self.models, self.data_root, self.results = models, data_root, results

    def base(self, tiny: str, formulation: str) -> Path:
        """The folder of a tiny model, with the head that the formulation asks for or without one."""
        checkpoint = written("model")[tiny_checkpoints.STANDS_FOR[tiny]]["checkpoint"]
        return self.models / formulation / Path(checkpoint).name

    def export(self, method: str, tiny: str, *more: str, formulation: str, merged: bool) -> tuple[Path, Any]:
        """The folder, and the predictions for the evaluated rows."""
        models = self.models / formulation
        own_output = TALKATIVE if (tiny, formulation) == ("tiny_t5", "text") else []
        base = tiny_checkpoints.make(models, self.data_root, tiny, *own_output, formulation=formulation)
        places = [f"data_root={self.data_root}", f"results_dir={self.results / method}"]
        asked = [f"method={method}", f"formulation={formulation}", "recipe.max_steps=3", "measure=false"]
        prepared = prepare(composed([*TINY[1:], *base, *places, *asked, *more]))
        if (problem := problem_with(prepared.config, prepared.checkpoint)) is not None:
            raise NotApplicable(str(problem))
        store = ResultStore(self.results / method)
        outputs = store.places(prepared.config, prepared.key)
        record = run(RunContext(prepared, outputs, [], lambda event: None))
        assert record is not None
        store.put(prepared.config, record)
        file = store.record_file(prepared.config, prepared.key)
        reloaded = reload(file, model_root=str(models), merged=merged)
        export.check(reloaded, merged=merged)
        folder = self.results / "exported"
        folder.mkdir()
        export.fill(reloaded, folder)
        return folder, pq.read_table(outputs.predictions).to_pandas().query("split == 'validation'")

    def first(self, family: str, tiny: str, *more: str, formulation: str, merged: bool) -> tuple[str, Path, Any]:
        """The first method of a family that can be exported so: its name, and what `export` returns.

        Args:
            more: overrides.
        """
        problems = []
        for method in candidates(family, merged=merged):
            try:
                return method, *self.export(method, tiny, *more, formulation=formulation, merged=merged)
            except ConfigError as error:
                problems.append(f"{method}: {error}")
        raise NotApplicable(f"{family}: {problems}")

    def texts(self, column: str = "sentence") -> list[str]:
        """The evaluated texts, by row."""
        (file,) = (self.data_root / "glue" / "sst2").glob("validation*")
        texts: list[str] = pq.read_table(file).column(column).to_pylist()
        return texts


def loaded(folder: Path, base: Path, kind: Any = AutoModelForSequenceClassification) -> Any:
    """The exported model, without this package.

    Args:
        kind: its class in transformers.
    """
    if not (folder / "adapter_config.json").exists():
        return kind.from_pretrained(folder).eval()
    config = AutoConfig.from_pretrained(folder / "base")
    return PeftModel.from_pretrained(kind.from_pretrained(base, config=config), folder).eval()
