"""A model card: what a run's weights are, made of its record."""

import json
from collections.abc import Iterator

from peftbench.config import formulations
from peftbench.results.records import RunRecord
from peftbench.results.report.page import again

#: Costs that a card shows: the record's name -> words and unit.
_COSTS = {
    "adapter_bytes": ("stored", "MB", 1e6),
    "train_time_s": ("training", "s", 1.0),
    "peak_memory_bytes": ("peak memory of training", "MB", 1e6),
    "inference_latency_ms": ("latency of one example", "ms", 1.0),
    "inference_latency_ms_merged": ("the same merged into the base", "ms", 1.0),
    "inference_latency_ms_base": ("the same of the base alone", "ms", 1.0),
}


def text(record: RunRecord) -> str:
    """The card in Markdown, with the fields at its head that model hubs read. The licence is the owner's to name."""
    model, method, data = (record.config[group] for group in ("model", "method", "dataset"))
    base = model.get("checkpoint") or model["name"]
    head = {"base_model": base, "datasets": [data.get("path") or data["name"]], "tags": ["peftbench", method["name"]]}
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in head.items()),
        "---",
        "",
        f"# {method['name']} on {base}, trained on {data['name']}",
        "",
        f"{method['name']}: {method.get('summary') or 'a fine-tuning method'}"
        + (f" ({method['source']})." if method.get("source") else "."),
        "",
        f"- base: `{base}`, revision `{model.get('revision') or 'not pinned'}`",
        f"- data: `{data.get('path') or data['name']}`"
        + (f", configuration `{data['config']}`" if data.get("config") else "")
        + (f", revision `{data['revision']}`" if data.get("revision") else ""),
        f"- answers: {', '.join(data['labels'])}" if data.get("labels") else "- answers: see the data set",
        *_question(record),
        "- licence: not stated; those of the base and of the data apply",
        "",
        "## Scores",
        "",
        *_scores(record),
        "",
        "## Costs",
        "",
        *_costs(record),
        "",
        "## Made by",
        "",
        "```",
        again.command([record]),
        "```",
        "",
        *(f"- {note}" for note in record.footnotes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _question(record: RunRecord) -> Iterator[str]:
    """The text that a language model was asked with: without it, its weights answer nothing."""
    data, formulation = record.config["dataset"], formulations.described(record.config)
    if formulation == "head" or not data.get("template"):
        return
    how = "the model writes the answer" if formulation == "text" else "the likeliest of the label words is the answer"
    yield f"- asked as: `{json.dumps(data['template'], ensure_ascii=False)}`; {how}"
    if data.get("verbaliser"):
        yield f"- label words: {', '.join(map(repr, data['verbaliser']))}, in the order of the answers above"


def _scores(record: RunRecord) -> Iterator[str]:
    yield "| split | rows | score | metrics |"
    yield "|---|---:|---:|---|"
    for split in record.config["dataset"]["evaluation"]:
        part = record.metrics.get(split)
        if part is None or part.get("score") is None:
            continue
        values = ", ".join(f"{name} {100 * value:.1f}" for name, value in part["values"].items())
        yield f"| {split} | {part['n']} | {100 * part['score']:.1f} | {values} |"


def _costs(record: RunRecord) -> Iterator[str]:
    params, figures = record.params or {}, record.efficiency or {}
    if (total := params.get("total")) and (trained := params.get("trainable")) is not None:
        yield f"- trained parameters: {trained:,} of {total:,} ({100 * trained / total:.2f} %)"
    for name, (words, unit, divisor) in _COSTS.items():
        if (value := figures.get(name)) is not None:
            yield f"- {words}: {value / divisor:.4g} {unit}"
