"""What learnt vectors look like in words: the tokens whose embeddings point most nearly their way.

Source: Lester et al., arXiv 2104.08691, section 7 ("Interpretability"): the nearest neighbours of a soft prompt's
vectors in the vocabulary, by cosine. A vector need not mean what its neighbours do, and all of them may be far.
"""

from typing import Any

import torch
import torch.nn.functional as F

#: Neighbours that are kept of every vector.
NEAREST = 5


def nearest_tokens(vectors: torch.Tensor, embeddings: torch.Tensor, tokenizer: Any) -> list[list[dict[str, Any]]]:
    """The tokens of the vocabulary whose embeddings, (tokens, width), are nearest to each of n vectors, (n, width),
    nearest first: `token` as the tokenizer spells it and `similarity`, the cosine."""
    cosines = F.normalize(vectors.float(), dim=1) @ F.normalize(embeddings.float(), dim=1).T
    nearest = cosines.topk(min(NEAREST, cosines.shape[1]), dim=1)
    return [
        [
            # Some models have more embeddings than their tokenizer has tokens.
            {"token": str(tokenizer.convert_ids_to_tokens(index)), "similarity": round(value, 4)}
            for index, value in zip(indices, values, strict=True)
        ]
        for indices, values in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    ]
