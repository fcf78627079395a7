"""Runs on tiny models whose weights are exported, and what loads them in plain transformers and peft."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig

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
TALKATIVE = ["+model.config.tie_word_embeddings=false", "+model.config.initializer_factor=3.0"]


def candidates(family: str, *, merged: bool) -> Iterator[str]:
    """The methods of a family that may be exported so, by their files; those that read finished runs left out."""
    for name, file in sorted(written("method").items()):
        if file["family"] != family or file.get("inputs") or file["lr"] is None or name in {**NOT_HERE, **OF_A_BATCH}:
            continue
        if not merged or file.get("mergeable"):
            yield name


def train(results: Path, *words: str) -> tuple[Path, Any]:
    """A run's record, and its predictions for the evaluated rows. Raises NotApplicable where it can't be done."""
    prepared = prepare(composed([*words, "measure=false", f"results_dir={results}"]))
    if (problem := problem_with(prepared.config, prepared.checkpoint)) is not None:
        raise NotApplicable(str(problem))
    store = ResultStore(results)
    outputs = store.places(prepared.config, prepared.key)
    record = run(RunContext(prepared, outputs, [], lambda event: None))
    assert record is not None
    store.put(prepared.config, record)
    rows = pq.read_table(outputs.predictions).to_pandas().query("split == 'validation'")
    return store.record_file(prepared.config, prepared.key), rows


def write(record: Path, folder: Path, *, model_root: Path, merged: bool) -> Path:
    """The exported folder. Raises NotApplicable for what plain peft couldn't load."""
    reloaded = reload(record, model_root=str(model_root), merged=merged)
    export.check(reloaded, merged=merged)
    folder.mkdir()
    export.fill(reloaded, folder)
    return folder


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
        asked = [f"method={method}", f"formulation={formulation}", "recipe.max_steps=3", f"data_root={self.data_root}"]
        file, rows = train(self.results / method, *TINY[1:], *base, *asked, *more)
        return write(file, self.results / "exported", model_root=models, merged=merged), rows

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


def questions(template: str, texts: list[str]) -> list[str]:
    """The template up to the answer, around each text."""
    before = template.partition("{answer}")[0]
    return [before.format(sentence=text).rstrip() for text in texts]


def written_answers(model: Any, folder: Path, lines: list[str]) -> list[str]:
    """What the exported model writes, text by text, with the exported settings."""
    tokenizer, settings = AutoTokenizer.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    texts = []
    for line in lines:
        whole = tokenizer(line)["input_ids"]
        ids = torch.tensor([whole if model.config.is_encoder_decoder else _open(whole, tokenizer)])
        new = 1 if model.config.is_encoder_decoder else ids.shape[1]
        ids = model.generate(input_ids=ids, generation_config=settings)[0][new:]
        texts.append(str(tokenizer.decode(ids, skip_special_tokens=True)).strip())
    return texts


def word_scores(model: Any, folder: Path, lines: list[str], words: list[str]) -> np.ndarray:
    """(lines, words) scores of label words behind each line by an exported decoder: of the first token that differs."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    lead = os.path.commonprefix(ids)
    told_by = [one[len(lead)] for one in ids]
    with torch.inference_mode():
        asked = (torch.tensor([[*_open(tokenizer(line)["input_ids"], tokenizer), *lead]]) for line in lines)
        return np.stack([model(input_ids=one).logits[0, -1, told_by].numpy() for one in asked])


def _open(ids: list[int], tokenizer: Any) -> list[int]:
    """A text's ids without the token that ends it."""
    return ids[:-1] if ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id) else ids
