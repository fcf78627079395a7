"""The layers of transformers' encoders, written out for the first position alone.

An encoder whose task head reads the first token needs of its last layer that token's query, attention output and
feed-forward block; keys and values come from all tokens. transformers' own layers compute every position: a query takes
its shape from the keys' input there. tests/models/test_encoder_compat.py fails where a later transformers has changed
what is written out here.

Each function has the arguments of the layer's `forward` and returns what it returns for the first position: hidden
states (n, 1, d) where the layer gives (n, length, d).
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peftbench.models.transformers_compat import WRITTEN_FOR

__all__ = ["HEADS", "LAYERS", "WRITTEN_FOR", "attention_of"]

_BERT, _ROBERTA, _DISTILBERT, _DEBERTA, _MODERNBERT = (
    f"transformers.models.{name}.modeling_{name}."
    for name in ("bert", "roberta", "distilbert", "deberta_v2", "modernbert")
)


def first_row(mask: torch.Tensor | None) -> torch.Tensor | None:
    """The first query's row of a mask (n, 1, queries or 1, keys)."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., :1, :]


def _heads(projected: torch.Tensor, width: int) -> torch.Tensor:
    """(n, length, heads * width) as (n, heads, length, width)."""
    return projected.unflatten(-1, (-1, width)).transpose(1, 2)


def _attend(attention: Any, parts: tuple[torch.Tensor, ...], mask: torch.Tensor | None, **named: Any) -> torch.Tensor:
    """The values that the first token reads, (n, 1, d), by the attention that the model's configuration names.

    parts: query (n, heads, 1, width), key and value (n, heads, keys, width).
    """
    module = sys.modules[type(attention).__module__]
    function = ALL_ATTENTION_FUNCTIONS.get_interface(
        attention.config._attn_implementation, module.eager_attention_forward
    )
    read, _ = function(attention, *parts, first_row(mask), **named)
    return read.flatten(2).contiguous()


def _bert(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    encoder_hidden_states: torch.Tensor | None = None,
    encoder_attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **named: Any,
) -> torch.Tensor:
    """BERT's and RoBERTa's layer, not as a decoder; past keys and values are a prefix."""
    attention, first = layer.attention.self, hidden_states[:, :1]
    query, key, value = (
        _heads(project(x), attention.attention_head_size)
        for project, x in (
            (attention.query, first),
            (attention.key, hidden_states),
            (attention.value, hidden_states),
        )
    )
    if past_key_values is not None:
        past = getattr(past_key_values, "self_attention_cache", past_key_values)
        key, value = past.update(key, value, attention.layer_idx)
    dropped = attention.dropout.p if attention.training else 0.0
    read = _attend(attention, (query, key, value), attention_mask, dropout=dropped, scaling=attention.scaling, **named)
    result: torch.Tensor = layer.feed_forward_chunk(layer.attention.output(read, first))
    return result


def _distilbert(
    layer: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: Any
) -> torch.Tensor:
    attention, first = layer.attention, hidden_states[:, :1]
    query, key, value = (
        _heads(project(x), attention.attention_head_size)
        for project, x in (
            (attention.q_lin, first),
            (attention.k_lin, hidden_states),
            (attention.v_lin, hidden_states),
        )
    )
    dropped = attention.dropout.p if attention.training else 0.0
    read = _attend(attention, (query, key, value), attention_mask, dropout=dropped, scaling=attention.scaling, **named)
    attended = layer.sa_layer_norm(attention.out_lin(read) + first)
    result: torch.Tensor = layer.output_layer_norm(layer.ffn(attended) + attended)
    return result


def _modernbert(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_embeddings: Any = None,
    **named: Any,
) -> torch.Tensor:
    """One matrix makes query, key and value, so that it is multiplied for all tokens."""
    attention = layer.attn
    projected = attention.Wqkv(layer.attn_norm(hidden_states))
    query, key, value = (_heads(part, attention.head_dim) for part in projected.chunk(3, dim=-1))
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    query, key = rotate(query, key, *position_embeddings, unsqueeze_dim=1)
    read = _attend(
        attention,
        (query[:, :, :1], key, value),
        attention_mask,
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.head_dim**-0.5,
        sliding_window=attention.sliding_window,
        deterministic=attention.deterministic_flash_attn,
        **named,
    )
    attended = hidden_states[:, :1] + attention.out_drop(attention.Wo(read))
    result: torch.Tensor = attended + layer.mlp(layer.mlp_norm(attended))
    return result


def _deberta(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor,
    query_states: Any = None,
    relative_pos: Any = None,
    rel_embeddings: Any = None,
    output_attentions: bool = False,
) -> tuple[torch.Tensor, None]:
    attention, first = layer.attention.self, hidden_states[:, :1]
    heads = attention.num_attention_heads
    query, key, value = (
        attention.transpose_for_scores(project(x), heads)  # (n * heads, length, width)
        for project, x in (
            (attention.query_proj, first),
            (attention.key_proj, hidden_states),
            (attention.value_proj, hidden_states),
        )
    )
    kinds = 1 + sum(kind in attention.pos_att_type for kind in ("c2p", "p2c"))
    scale = torch.tensor(query.shape[-1] * kinds, dtype=torch.float).sqrt().to(query.dtype)
    scores = torch.bmm(query, key.transpose(1, 2) / scale)
    if attention.relative_attention:
        distances = relative_pos.view(relative_pos.shape[-2:])
        scores = scores + _deberta_positions(attention, query, key, distances, attention.pos_dropout(rel_embeddings))
    scores = scores.unflatten(0, (-1, heads))
    lowest = torch.finfo(query.dtype).min
    scores = scores.masked_fill(~attention_mask[..., :1, :].bool(), lowest)
    weights = attention.dropout(scores.softmax(-1))
    read = torch.bmm(weights.flatten(0, 1), value).unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
    attended = layer.attention.output(read, first)
    return layer.output(layer.intermediate(attended), attended), None


def _deberta_positions(
    attention: Any, query: torch.Tensor, key: torch.Tensor, distances: torch.Tensor, embeddings: torch.Tensor
) -> torch.Tensor:
    """The term that distances add to the first token's scores (He et al., arXiv 2006.03654, equation 4), (n * heads, 1,
    keys).

    query: (n * heads, 1, width); key: (n * heads, keys, width); distances: (keys, keys), of a query (row) to a key;
    embeddings: of distances from -span to span.
    """
    span, heads, shared = attention.pos_ebd_size, attention.num_attention_heads, attention.share_att_key
    kinds = 1 + sum(kind in attention.pos_att_type for kind in ("c2p", "p2c"))
    scale = torch.tensor(query.shape[-1] * kinds, dtype=torch.float).sqrt()
    embeddings = embeddings[: 2 * span][None]

    def projected(project: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        """The embeddings of the distances at these places, (heads, keys, width)."""
        every: torch.Tensor = attention.transpose_for_scores(project(embeddings), heads)
        return every.index_select(1, (rows.long() + span).clamp(0, 2 * span - 1))

    scores = query.new_zeros(())
    if "c2p" in attention.pos_att_type:  # The first token's content and each key's distance from it.
        at = projected(attention.key_proj if shared else attention.pos_key_proj, distances[0])
        content = query.unflatten(0, (-1, heads))  # (n, heads, 1, width)
        scores = scores + (content @ at.transpose(1, 2)).flatten(0, 1) / scale.to(query.dtype)
    if "p2c" in attention.pos_att_type:  # Each key's content and the first token's distance from it.
        at = projected(attention.query_proj if shared else attention.pos_query_proj, -distances[:, 0])
        content = key.unflatten(0, (-1, heads))  # (n, heads, keys, width)
        scores = scores + (content * at).sum(-1).flatten(0, 1)[:, None] / scale.to(key.dtype)
    return scores


#: By a layer's class, its first position.
LAYERS: dict[str, Callable[..., Any]] = {
    f"{_BERT}BertLayer": _bert,
    f"{_ROBERTA}RobertaLayer": _bert,
    f"{_DISTILBERT}TransformerBlock": _distilbert,
    f"{_DEBERTA}DebertaV2Layer": _deberta,
    f"{_MODERNBERT}ModernBertEncoderLayer": _modernbert,
}

#: Models whose task head reads the first position and nothing else of the last layer.
HEADS = {
    f"{_BERT}BertForSequenceClassification",
    f"{_ROBERTA}RobertaForSequenceClassification",
    f"{_DISTILBERT}DistilBertForSequenceClassification",
    f"{_DEBERTA}DebertaV2ForSequenceClassification",
    f"{_MODERNBERT}ModernBertForSequenceClassification",
}


def attention_of(layer: Any) -> list[nn.Module]:
    """The modules of a layer that its function here passes by, reading their parts instead."""
    if hasattr(layer, "attn"):
        return [layer.attn]
    return [layer.attention, *([layer.attention.self] if hasattr(layer.attention, "self") else [])]
