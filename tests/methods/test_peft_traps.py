"""Where peft goes wrong without saying so: each of these fails if the guard against it is taken out."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from peftbench.errors import ConfigError, NotApplicable
from peftbench.methods.tuners.classification import SequenceClassifier
from peftbench.models import parameters, quantization
from peftbench.run import outputs
from peftbench.run.verify import problem_with
from tests.helpers.built import Built
from tests.helpers.composed import composed


@pytest.fixture
def built(cell) -> Callable[..., Built]:
    return lambda method, model, *more: Built(cell(f"method={method}", f"model={model}", *more))


@pytest.mark.parametrize("method", ["prompt", "p_tuning", "multitask_prompt"])
def test_an_encoders_head_reads_cls_and_not_the_first_virtual_token(built, method: str) -> None:
    case = built(method, "tiny_bert")
    found = case.logits()
    model = case.model.eval().get_base_model()
    batch, n = case.batch, case.model.active_peft_config.num_virtual_tokens
    size = len(batch["labels"])
    with torch.no_grad():
        ids = torch.zeros(size, dtype=torch.long) if method == "multitask_prompt" else None
        prompts = case.model.get_prompt(batch_size=size, task_ids=ids)
        hidden = model.bert(
            inputs_embeds=torch.cat([prompts, model.bert.embeddings.word_embeddings(batch["input_ids"])], dim=1),
            attention_mask=torch.cat([torch.ones(size, n), batch["attention_mask"]], dim=1),
            token_type_ids=torch.cat([torch.zeros(size, n, dtype=torch.long), batch["token_type_ids"]], dim=1),
        ).last_hidden_state
        pooled = model.bert.pooler(hidden[:, n:])
        assert torch.allclose(found, model.classifier(pooled), atol=1e-5)
        assert not torch.allclose(found, model.classifier(model.bert.pooler(hidden)), atol=1e-3)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_qwen"])
def test_a_decoders_head_reads_the_last_real_token_and_not_padding(built, model: str) -> None:
    case = built("prompt", model)
    lengths = case.batch["attention_mask"].sum(dim=1)
    assert lengths.min() < lengths.max()
    shortest = int(lengths.argmin())
    alone = case.logits(batch=case.data.train.collate([shortest]))
    assert torch.allclose(case.logits()[shortest], alone[0], atol=1e-5)


def test_loading_through_peft_keeps_the_right_token(built, tmp_path) -> None:
    case = built("prompt", "tiny_gpt2")
    outputs.save(case.method, case.model, tmp_path / "adapter", keep=True)
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "adapter")
    assert isinstance(loaded, SequenceClassifier)
    assert torch.equal(case.logits(loaded), case.logits())


def test_a_soft_prompt_can_be_switched_off(built) -> None:
    case = built("prompt", "tiny_bert")
    inputs, with_prompt = case.tuner.inputs(case.batch), case.logits()
    with torch.no_grad(), case.model.disable_adapter():
        assert torch.equal(case.model(**inputs).logits, case.logits(case.fresh_base()))
    assert torch.equal(case.logits(), with_prompt)


@pytest.mark.parametrize(("method", "model"), [("llama_adapter", "tiny_llama"), ("trainable_tokens", "tiny_bert")])
def test_the_head_is_trained_and_saved_where_peft_has_no_field_for_it(built, method: str, model: str, tmp_path) -> None:
    case = built(method, model)
    head = [name for name, p in case.model.named_parameters() if p.requires_grad and case.in_head(name)]
    assert head
    case.train(3)
    outputs.save(case.method, case.model, tmp_path / "adapter", keep=True)
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "adapter")
    assert torch.equal(case.logits(loaded), case.logits())


@pytest.mark.parametrize(
    ("model", "part"), [("tiny_deberta", "pooler"), ("tiny_modernbert", "head"), ("tiny_distilbert", "pre_classifier")]
)
def test_every_new_layer_of_a_head_is_trained(built, model: str, part: str) -> None:
    case = built("lora", model)
    trained = {name for name, p in case.model.named_parameters() if p.requires_grad}
    assert [name for name in trained if part in name.split(".")]
    assert [name for name in trained if "classifier" in name.split(".")]


def test_the_reported_loss_is_the_tasks(built) -> None:
    """AdaLoRA's regulariser is minimised and not reported."""
    case = built("adalora", "tiny_bert")
    outputs = case.tuner(case.batch)
    task = case.task.losses(outputs, case.batch).mean()
    minimised = case.method.loss(task, outputs, case.batch)
    assert minimised > task + 1e-4
    expected = torch.nn.functional.cross_entropy(case.logits(), case.batch["labels"])
    kept = case.tuner.eval().predict(case.batch)
    assert kept["loss"].item() / len(case.batch["labels"]) == pytest.approx(expected.item(), abs=1e-6)


def test_adalora_is_saved_as_it_answers_while_its_budget_falls(built, tmp_path) -> None:
    """peft would cut ranks by the last step's pattern, which cut-off values have outgrown since."""
    case = built("adalora", "tiny_bert")
    case.train(35)
    outputs.save(case.method, case.model, tmp_path / "adapter", keep=True)
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "adapter")
    assert torch.equal(case.logits(loaded), case.logits())


def test_adaloras_regulariser_is_pefts(built) -> None:
    case = built("adalora", "tiny_bert")
    case.model.eval()
    outputs = case.model(**case.tuner.inputs(case.batch), labels=case.batch["labels"])
    task = torch.nn.functional.cross_entropy(outputs.logits, case.batch["labels"])
    assert case.method.loss(task, outputs, case.batch).item() == pytest.approx(outputs.loss.item(), rel=1e-5)


@pytest.mark.parametrize(("method", "model"), [("kasa", "tiny_bert"), ("shadow", "tiny_llama")])
def test_the_terms_that_a_paper_adds_are_minimised_and_not_reported(built, method: str, model: str) -> None:
    case = built(method, model)
    case.model.eval()
    outputs = case.tuner(case.batch)
    task = case.task.losses(outputs, case.batch).mean()
    assert case.method.loss(task, outputs, case.batch) > task + 1e-5
    if method == "shadow":  # peft adds the same, where it is given labels.
        theirs = case.model(**case.tuner.inputs(case.batch), labels=case.batch["labels"]).loss
        outputs = case.tuner(case.batch)
        assert case.method.loss(task, outputs, case.batch).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_something_must_train(built) -> None:
    with pytest.raises(NotApplicable, match="nothing but the head would be trained"):
        built("osf", "tiny_gpt2")


def test_gradients_keep_their_type_under_autocast(train) -> None:
    """OSF's hooks multiply gradients: under autocast they would return another type, and torch refuses that."""
    assert train("method=osf", "hardware=cpu_bf16", "recipe.max_steps=2").status == "completed"


def test_lora_fas_matrices_are_counted_after_its_optimiser_is_built(train) -> None:
    frozen = train("method=lora_fa", "recipe.max_steps=2").params
    both = train("method=lora", "recipe.max_steps=2").params
    assert frozen["adapter"] == both["adapter"] // 2
    assert frozen["total"] == both["total"]


@pytest.mark.parametrize("method", ["lora", "bitfit", "loha", "vera", "oft"])
def test_merging_works_on_roberta(built, method: str) -> None:
    case = built(method, "tiny_roberta")
    case.train(3)
    assert torch.allclose(case.logits(case.method.merge(case.model)), case.logits(), atol=1e-5)


@pytest.mark.parametrize("method", ["pissa", "olora", "lora_ga", "corda"])
def test_the_base_beside_it_is_a_fresh_one_and_the_adapter_fits_it(built, method: str, tmp_path) -> None:
    case = built(method, "tiny_bert")
    case.train(3)
    with case.model.disable_adapter():
        assert not torch.allclose(case.logits(), case.logits(case.fresh_base()), atol=1e-3)
    outputs.save(case.method, case.model, tmp_path / "adapter", keep=True)
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "adapter")
    assert torch.allclose(case.logits(loaded), case.logits(), atol=1e-4)


def test_lily_depends_on_its_neighbours_and_says_so(built, train) -> None:
    case = built("lily", "tiny_bert")
    case.train(10)
    alone = case.logits(batch=case.data.train.collate([0]))
    assert not torch.allclose(case.logits()[0], alone[0], atol=1e-5)
    notes = train("method=lily", "recipe.max_steps=2").footnotes
    assert [note for note in notes if note.startswith("lily: scores depend on the batch")]


def test_xlora_is_refused_with_the_reason(cell) -> None:
    found = cell("method=xlora", "model=tiny_llama")
    reason, not_applicable = problem_with(found.config, found.checkpoint)
    assert not_applicable
    assert "doesn't save its classifier" in reason


class TestQuantised:
    """Bases in 4 and 8 bits, on the CPU."""

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        pytest.importorskip("bitsandbytes", reason="the extra `quantised` isn't installed")

    def test_training_after_an_evaluation_still_gets_gradients(self, built) -> None:
        """On a CPU with AVX512-BF16 bitsandbytes repacks 4-bit weights in evaluation, and gradients stop there."""
        case = built("qlora", "tiny_bert")
        case.logits()
        case.model.train()
        case.task.losses(case.tuner(case.batch), case.batch).mean().backward()
        missing = [n for n, p in case.model.named_parameters() if "lora_B" in n and not p.grad.abs().sum()]
        assert not missing

    def test_the_guard_is_set_on_every_packed_layer(self, built) -> None:
        import bitsandbytes as bnb

        layers = [m for m in built("qlora", "tiny_bert").model.modules() if isinstance(m, bnb.nn.Linear4bit)]
        assert len(layers) == 13  # Six in each of two layers, and the pooler.
        assert not [layer for layer in layers if layer.support_avx512bf16_for_cpu]

    @pytest.mark.parametrize("method", ["qlora", "lora_int8"])
    def test_packed_weights_are_counted_whole_and_their_bytes_as_they_lie(self, built, method: str) -> None:
        packed, plain = built(method, "tiny_bert"), built("lora", "tiny_bert")
        head = plain.config.model.head
        assert parameters.count(packed.model, head) == parameters.count(plain.model, head)
        assert quantization.weights_bytes(packed.model) < 0.8 * quantization.weights_bytes(plain.model)

    def test_the_head_isnt_packed(self, built) -> None:
        weights = [
            p for n, p in built("qlora", "tiny_bert").model.named_parameters() if "classifier" in n and p.ndim == 2
        ]
        assert {p.dtype for p in weights} == {torch.float32}

    def test_a_wrong_argument_is_named(self, cell) -> None:
        found = cell("method=qlora", "+method.quantization.bits=3")
        problem = problem_with(found.config, found.checkpoint)
        assert problem is not None
        assert problem[0].startswith("method.quantization.bits: allowed are")


def test_without_bitsandbytes_a_quantised_base_is_refused_before_anything_is_loaded(
    cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'peftbench"):
        quantization.settings(cell("method=qlora").config)


@pytest.mark.parametrize(
    ("method", "model", "reason"),
    [
        ("bitfit", "tiny_llama", "no layer of LlamaModel has a bias to train"),
        ("cpt", "tiny_bert", "supports decoder"),
        ("c3a", "tiny_bert", "block size"),
        ("prompt", "tiny_t5", "no virtual tokens"),
    ],
)
def test_a_method_on_a_model_it_cant_adapt_is_refused_before_weights_are_loaded(
    cell, method: str, model: str, reason: str
) -> None:
    more = {"c3a": ["method.adapter.block_size=48"], "prompt": ["formulation=head"]}.get(method, [])
    found = cell(f"method={method}", f"model={model}", *more)
    problem = problem_with(found.config, found.checkpoint)
    assert problem is not None
    assert problem[1]
    assert f"method={method} on model={model}" in problem[0]
    assert reason in problem[0]


def test_prompt_methods_work_without_a_head_on_an_encoder_decoder() -> None:
    from peftbench.config import formulations

    assert formulations.formulation(composed(["method=prompt", "model=tiny_t5"])) == "verbaliser"
