"""BERTScore: how near the tokens of a generated text are to a reference's, as vectors of a model that the user names.

Source: Zhang et al., arXiv 1904.09675, section 3: R, P and F, without idf weights or rescaling. As in the authors'
library, the tokens that a tokenizer puts around a text may be matched and don't count themselves.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from peftbench import errors
from peftbench.data.datamodule import TaskDataModule
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results import scored
from peftbench.run.training.tuner import gather
from peftbench.tasks.text import questions

#: Pairs of texts whose vectors are held at once, and texts of a forward pass.
_CHUNK, _BATCH = 256, 16


@dataclass(frozen=True)
class Vectors:
    """A text's tokens as unit vectors (length, width), and 1 for those that count, 0 for special tokens (length,)."""

    units: torch.Tensor
    counts: torch.Tensor


class BertScore:
    """The score by one model.

    Args:
        folder: the model's checkpoint.
        layer: the number, from 1, of the layer whose output is compared; None: the last.

    Raises:
        ConfigError: the folder holds no model, or the model has no such layer.
    """

    def __init__(self, folder: str, layer: int | None) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        except Exception as error:  # Each kind of file fails in its own way.
            raise ConfigError(f"bertscore_model={folder}: can't load it ({errors.first_line(error)})") from None
        layers = self.model.config.num_hidden_layers
        if layer is not None and layer > layers:
            raise ConfigError(f"bertscore_layer={layer}: this model has {layers}")
        self.layer = layers if layer is None else layer

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The mean over n texts of F with the best of their references; an empty text scores 0."""
        pairs = [(i, text, reference) for i, text in enumerate(predictions) for reference in references[i]]
        best = [0.0] * len(predictions)
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            # By length, so that batches have little padding.
            vectors = self._vectors(sorted({text for _, *texts in chunk for text in texts}, key=lambda t: (len(t), t)))
            for i, text, reference in chunk:
                best[i] = max(best[i], f(vectors[text], vectors[reference]))
        return sum(best) / len(best)

    def _vectors(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of each text."""
        return {
            text: vectors
            for start in range(0, len(texts), _BATCH)
            for text, vectors in self._batch(texts[start : start + _BATCH])
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
    folder: str, metrics: Mapping[str, Any], predictions: Mapping[str, list[dict[str, Any]]], data: TaskDataModule
) -> None:
    """Add BERTScore to the values of a generation set's evaluation splits. The score, a mean of metrics, stays without.

    Args:
        folder: the checkpoint of the model that compares.
        metrics: by split what is recorded; changed in place.
        predictions: by split what `FineTuner.predict` returned.
    """
    judge = BertScore(folder, data.config.bertscore_layer)
    for name in data.config.dataset.evaluation:
        examples, recorded = data.slices[name], metrics[name]
        if examples is not None and recorded is not None and not examples.hidden:
            recorded["values"]["bertscore"] = judge.score(*questions(gather(predictions[name]), examples))


def added(
    folder: str, metrics: Mapping[str, Any], predictions: Mapping[str, list[dict[str, Any]]], data: TaskDataModule
) -> list[str]:
    """`add`, whose failure mustn't cost the score; returns a footnote if it failed."""
    try:
        add(folder, metrics, predictions, data)
    except errors.Interrupted:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("BERTScore")
        return [scored.unmeasured(data.config.method.name, scored.BERTSCORE, type(error).__name__)]
    return []


def f(candidate: Vectors, reference: Vectors) -> float:
    """F, the harmonic mean of precision and recall: the mean cosine of a candidate's tokens with the nearest token of
    the reference, and the other way round."""
    if not candidate.counts.any() or not reference.counts.any():
        return 0.0
    near = candidate.units @ reference.units.T
    precision = float((near.amax(dim=1) * candidate.counts).sum() / candidate.counts.sum())
    recall = float((near.amax(dim=0) * reference.counts).sum() / reference.counts.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
