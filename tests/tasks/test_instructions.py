"""Mixtures as text are learnt: what is trained on, by whom, and what the loss is of."""

import pytest
import torch

from peftbench.config import compose
from peftbench.data.mixture import MixtureDataModule
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.store import ResultStore
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built, shake

COPY = ["dataset=copy", "formulation=text", "recipe.train_samples=16", "recipe.eval_samples=8"]
TOYS = ("dataset=mixture", "dataset.parts=[demo,copy]", "formulation=text", "recipe.max_length=160")


def mixed(prepared) -> MixtureDataModule:
    task = build_task(prepared.config)
    tokenizer = backbones.load_tokenizer(prepared.config.model, prepared.checkpoint)
    cache = ResultStore(prepared.config.results_dir).cache
    places = {"source": prepared.source, "tokenizer_fingerprint": "t", "cache": cache}
    data = MixtureDataModule(prepared.config, task, tokenizer, **places)
    data.setup()
    return data


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_t5", "tiny_bart"])
def test_one_model_learns_to_answer_two_toy_tasks(train, model: str) -> None:
    """From random weights, by the question alone: a word of two here, letters there. In so few steps the answers have
    their form; which of both words is right, and the whole string, take longer."""
    short = ("recipe.eval_samples=40", "measure=false", f"model={model}")
    more = ("method=full", "method.lr=1e-3", "recipe.max_steps=700", "recipe.batch_size=16", "recipe.eval_steps=350")
    before = train(*TOYS, *short, "method=zero_shot").metrics
    after = train(*TOYS, *short, *more, "recipe.warmup_ratio=0.1").metrics
    # A text that is no label counts as wrong.
    assert before["demo/validation"]["score"] == 0
    assert after["demo/validation"]["score"] > 0.3
    assert after["demo/validation"]["loss"] < 0.2 * before["demo/validation"]["loss"]
    assert after["copy/validation"]["loss"] < 0.5 * before["copy/validation"]["loss"]


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_a_loss_on_all_tokens_is_that_of_a_language_model(cell, method: str) -> None:
    case = Built(cell(*COPY, "model=tiny_llama", f"method={method}", "recipe.loss_on=all"))
    shake(case.model, seed=0)
    batch = case.data.train.collate(range(6))
    with torch.no_grad():
        losses = case.task.losses(case.model.eval()(**case.tuner.inputs(batch)), batch)
        assert len(losses) == case.task.terms(batch)
        expected, count = 0.0, 0
        for i in range(6):
            line = case.data.train.collate([i])
            whole = torch.cat([line["input_ids"][0], line["targets"][0]])[None]
            outputs = case.model(input_ids=whole, attention_mask=torch.ones_like(whole))
            own = outputs.logits[:, -whole.shape[1] :][0, :-1].log_softmax(-1)
            expected -= own.gather(1, whole[0, 1:, None]).sum().item()
            count += whole.shape[1] - 1
    assert losses.sum().item() == pytest.approx(expected, rel=1e-4)
    assert count == len(losses)


def test_where_a_loss_on_all_tokens_is_refused(cell) -> None:
    with pytest.raises(ConfigError, match="recipe.loss_on=all: model=tiny_t5 writes answers alone"):
        build_task(cell(*COPY, "model=tiny_t5", "recipe.loss_on=all").config)
    with pytest.raises(ConfigError, match="recipe.loss_on=all: goes with formulation=text"):
        build_task(cell("recipe.loss_on=all").config)
    case = cell(*COPY, "model=tiny_llama", "method=p_tuning_template", "recipe.loss_on=all")
    with pytest.raises(ConfigError, match="puts vectors between question and answer"):
        Built(case)
    # What null means has one key.
    assert compose.one([*COPY, "recipe.loss_on=answer"]).recipe.loss_on is None


def test_questions_in_chat_format(cell) -> None:
    """The user's turn holds the question, and the answer begins the assistant's."""
    prepared = cell(*TOYS, "model=tiny_llama", "recipe.train_samples=8", "recipe.eval_samples=4")
    plain = mixed(prepared)
    task = build_task(prepared.config)
    tokenizer = backbones.load_tokenizer(prepared.config.model, prepared.checkpoint)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    task.prepare(tokenizer)
    part, module = task.parts[0], plain.modules[0]
    examples = module.rows.examples("train", module.rows.training()[0][:3])
    made = part.encode(tokenizer, examples, 160, training=True)
    for example, ids, answer in zip(examples, made.input_ids, made.targets, strict=True):
        text = tokenizer.decode(ids)
        assert text.startswith("<user>")
        assert text.endswith("</><assistant>")
        assert example.fields["sentence"] in text
        assert tokenizer.decode(answer, skip_special_tokens=True) == part.right(example)
    # Without one, and where it isn't wanted, the text is the template's alone.
    assert not any("<user>" in plain.tokenizer.decode(plain.train.tokens) for _ in [0])


def test_a_chat_format_that_is_not_there_is_refused(cell) -> None:
    prepared = cell(*TOYS, "model=tiny_llama", "dataset.chat=true")
    with pytest.raises(ConfigError, match="dataset.chat=true: this model's tokenizer has no chat format"):
        mixed(prepared)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_t5"])
def test_p_tuning_in_a_template_writes_as_it_scores(cell, model: str) -> None:
    """The text that is written, padded on the left, is the likeliest by the scores that training looks at."""
    case = Built(cell(*COPY, "method=p_tuning_template", f"model={model}", "dataset.generation.max_new_tokens=4"))
    shake(case.model, seed=0, scale=0.3)
    case.model.eval()
    batch = case.data.train.collate(range(6))
    with torch.no_grad():
        written = case.model.generate(**case.task.prompt(batch), **case.task.generation_of(0))
        first = case.task._new(written, batch)[:, 0]
        outputs = case.model(**case.tuner.inputs(batch))
        starts = case.task._starts(batch) if case.config.model.family == "decoder" else torch.zeros(6).long()
        shift = 0
        if case.config.model.family == "decoder":
            shift = outputs.logits.shape[1] - case.task.inputs(batch)["input_ids"].shape[1]
        told = outputs.logits[torch.arange(6), starts + shift].argmax(dim=1)
    assert torch.equal(first, told)


def test_p_tuning_in_a_template_learns_to_write(cell) -> None:
    case = Built(cell(*COPY, "method=p_tuning_template", "model=tiny_llama", "method.lr=1e-2"))
    batch = case.data.train.collate(range(8))
    optimizer = torch.optim.Adam([p for p in case.model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        loss = case.task.losses(case.model(**case.tuner.inputs(batch)), batch).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
