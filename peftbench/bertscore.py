"""BERTScore: how near a written text's words are to a right one's, in the eyes of a model that the user names.

Source: Zhang et al., arXiv 1904.09675, section 3: R, P and F, without idf weights or rescaling. As in the authors'
library, the tokens that a tokenizer puts around a text may be matched and don't count themselves.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from peftbench import backbones, scored, stop
from peftbench.data.datamodule import TaskDataModule
from peftbench.errors import ConfigError
from peftbench.module import gather
from peftbench.tasks.shared import hidden
from peftbench.tasks.text import questions

#: Texts whose vectors are held at once, and those of a forward pass.
_CHUNK, _BATCH = 256, 16


@dataclass(frozen=True)
class Vectors:
    """A text's tokens: unit vectors (length, width), and which of them count (length,)."""

    units: torch.Tensor
    counts: torch.Tensor


class BertScore:
    """Raises ConfigError for a folder without a model, or a layer that it doesn't have.

    Args:
        folder: of a checkpoint.
        layer: whose output is compared, from 1; None: the last.
    """

    def __init__(self, folder: str, layer: int | None) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        except Exception as error:  # Each kind of file fails in its own way.
            raise ConfigError(f"bertscore_model={folder}: can't load it ({str(error).splitlines()[0]})") from None
        layers = self.model.config.num_hidden_layers
        if layer is not None and layer > layers:
            raise ConfigError(f"bertscore_layer={layer}: this model has {layers}")
        self.layer = layers if layer is None else layer

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The mean F over n texts, each with the best of its references; an empty text scores 0."""
        pairs = [(i, text, right) for i, text in enumerate(predictions) for right in references[i]]
        best = [0.0] * len(predictions)
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            known = self._vectors(sorted({text for _, *texts in chunk for text in texts}, key=lambda t: (len(t), t)))
            for i, text, right in chunk:
                best[i] = max(best[i], f(known[text], known[right]))
        return sum(best) / len(best)

    def _vectors(self, texts: Sequence[str]) -> dict[str, Vectors]:
        return {
            text: found
            for start in range(0, len(texts), _BATCH)
            for text, found in self._batch(texts[start : start + _BATCH])
        }

    @torch.inference_mode()
    def _batch(self, texts: Sequence[str]) -> Iterator[tuple[str, Vectors]]:
        longest = backbones.positions(self.model)
        encoded = self.tokenizer(
            list(texts),
            padding=True,
            truncation=longest is not None,
            max_length=longest,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
        special = encoded.pop("special_tokens_mask")
        states = self.model(**encoded, output_hidden_states=True).hidden_states[self.layer]
        units = torch.nn.functional.normalize(states, dim=-1)
        for text, vectors, mask, around in zip(texts, units, encoded["attention_mask"].bool(), special, strict=True):
            yield text, Vectors(vectors[mask], (around[mask] == 0).float())


def add(
    folder: str, metrics: Mapping[str, Any], kept: Mapping[str, list[dict[str, Any]]], data: TaskDataModule
) -> None:
    """BERTScore among the values of a generation set's evaluation splits. It is no part of the score, which has the
    same metrics with and without it.

    Args:
        folder: of the model that compares.
        metrics: by split what is recorded, which is added to; `kept`: what the predictions were.
    """
    judge = BertScore(folder, data.config.bertscore_layer)
    for name in data.config.dataset.evaluation:
        part, found = data.slices[name], metrics[name]
        if part is not None and found is not None and not hidden(part):
            found["values"]["bertscore"] = judge.score(*questions(gather(kept[name]), part))


def added(
    folder: str, metrics: Mapping[str, Any], kept: Mapping[str, list[dict[str, Any]]], data: TaskDataModule
) -> list[str]:
    """`add`; a note why where that fails: the score is there already."""
    try:
        add(folder, metrics, kept, data)
    except stop.Interrupted:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("BERTScore")
        return [scored.unmeasured(data.config.method.name, scored.BERTSCORE, type(error).__name__)]
    return []


def f(candidate: Vectors, reference: Vectors) -> float:
    """The harmonic mean of precision and recall: how near every token's nearest in the other text is, by cosine."""
    if not candidate.counts.any() or not reference.counts.any():
        return 0.0
    near = candidate.units @ reference.units.T
    precision = float((near.amax(dim=1) * candidate.counts).sum() / candidate.counts.sum())
    recall = float((near.amax(dim=0) * reference.counts).sum() / reference.counts.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
