"""Scores of texts in all scripts: a right one is 1, a wrong one isn't, and Latin ones are what they were."""

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from peftbench.tasks.metrics import registry, scripts, texts

NAMES = ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "exact_match"]

#: By language: a text, one that shares some words with it, one that shares none; BLEU's tokens.
TEXTS = {
    "Chinese": ("今天天气很好，我们去公园。", "今天天气不好，我们在家。", "小猫睡着了", "zh"),
    "Japanese": ("今日は天気がいいので公園に行きます。", "今日は雨なので家にいます。", "ネコ", "char"),
    "Korean": ("오늘은 날씨가 좋아서 공원에 갑니다", "오늘은 날씨가 나빠서 집에 있습니다", "고양이", "intl"),
    "Hindi": ("आज मौसम बहुत अच्छा है।", "आज मौसम खराब है।", "बिल्ली सो गई", "intl"),
    "Russian": ("Сегодня хорошая погода, мы идём в парк.", "Сегодня дождь, мы дома.", "кошка спит", "intl"),
    "Arabic": ("الطقس جميل اليوم ونذهب إلى الحديقة", "الطقس سيئ اليوم", "قطة نائمة", "intl"),
    "Greek": ("Σήμερα ο καιρός είναι καλός", "Σήμερα βρέχει", "γάτα", "intl"),
    "Thai": ("วันนี้อากาศดีมาก", "วันนี้ฝนตก", "แต", "char"),
    "Hebrew": ("היום מזג האוויר יפה מאוד", "היום יורד גשם", "חתול", "intl"),
    "Chinese, three characters": ("天气好", "天气坏", "猫", "zh"),
    "Chinese with a Latin name": ("iPhone手机很好用也不贵", "iPhone手机坏了", "猫", "zh"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_right_text_scores_one_and_a_wrong_one_less(language: str) -> None:
    right, near, far, tokens = TEXTS[language]
    assert registry.compute(NAMES, [right], [[right]]) == {name: pytest.approx(1) for name in NAMES}
    some, none = (registry.compute(NAMES, [said], [[right]]) for said in (near, far))
    assert 0 < some["rouge1"] < 1
    assert 0 <= some["bleu"] < 1
    assert none["rouge1"] == none["rougeLsum"] == none["bleu"] == 0
    assert scripts.sacrebleu_tokeniser([[right]]) == tokens


def test_scripts_may_stand_beside_each_other() -> None:
    said = ["天气 好", "погода хорошая", "good weather"]
    found = registry.compute(["rouge1", "rouge2", "rougeL"], said, [[one] for one in said])
    assert found == {"rouge1": 1, "rouge2": 1, "rougeL": 1}


def test_words_by_hand() -> None:
    assert scripts.words("Погода — ХОРОШАЯ, 20°!") == ["погода", "хорошая", "20"]
    assert scripts.words("去iPhone店2次") == ["去", "iphone", "店", "2", "次"]
    assert scripts.words("है। ที่ดี e\u0301té") == ["है", "ที่", "ดี", "été"]
    assert scripts.words("… 😀 !") == []


def test_sentences_end_where_their_script_ends_them() -> None:
    """In another order the sentences of a summary are as good, by ROUGE-Lsum."""
    for first, second in (("今天天气很好。", "我们去公园！"), ("आज मौसम है। ", "हम जाते हैं। ")):
        assert registry.get("rougeLsum")([second + first], [[first + second]]) == pytest.approx(1)
        assert registry.get("rougeL")([second + first], [[first + second]]) < 1


@pytest.mark.parametrize("seed", range(5))
def test_latin_scores_are_the_libraries_own_to_the_bit(seed: int) -> None:
    rng = random.Random(seed)
    pool = "Zürich’s naïve the cat sat running 3.5 U.N. 東京 β — “so” ŒUVRE no.".split()
    latin = [word for word in pool if scripts.usual([word])]
    made = [" ".join([*rng.choices(latin, k=12), *rng.choices(pool, k=3)]) for _ in range(40)]
    said, right = made[:20], [[made[20 + i], made[i - 1]] for i in range(20)]
    for kind in ("rouge1", "rouge2", "rougeL"):
        scorer = RougeScorer([kind], use_stemmer=True)
        expected = [scorer.score_multi(r, p)[kind].fmeasure for p, r in zip(said, right, strict=True)]
        assert registry.get(kind)(said, right) == sum(expected) / len(expected)
    streams = [[r[i] for r in right] for i in range(2)]
    assert registry.get("bleu")(said, right) == BLEU().corpus_score(said, streams).score / 100
    assert texts.notes(NAMES, right) == []


def test_what_was_written_does_not_choose_the_tokens() -> None:
    assert registry.get("rouge1")(["天气好"], [["good weather"]]) == 0
    assert registry.get("rouge1")(["good weather"], [["天气好"]]) == 0


def test_a_note_says_how_texts_were_split() -> None:
    right = [["天气好"], ["good"], ["猫"]]
    rouge, bleu = texts.notes(["rouge1", "rougeL", "bleu"], right)
    assert rouge.startswith("rouge1, rougeL: 2 of 3 texts are split into")
    assert bleu == "bleu: sacrebleu's tokens zh, not 13a"
    assert texts.notes(["chrf", "exact_match"], right) == []


def test_the_record_says_it(tmp_path, train) -> None:
    import json

    for name in ("train", "validation"):
        rows = [json.dumps({"q": f"天气很好，去公园{i}", "a": "天气好"}, ensure_ascii=False) for i in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    record = train(
        "model=tiny_t5", "dataset=jsonl", f"dataset.train_file={tmp_path}/train.jsonl", "dataset.title=weather",
        f"dataset.validation_file={tmp_path}/validation.jsonl", "dataset.task=generation", "dataset.text=[q]",
        "dataset.label=null", "+dataset.answers=a", "dataset.template='{q}: {answer}'",
        "+dataset.generation.max_new_tokens=12", "recipe.max_steps=1",
    )  # fmt: skip
    assert record.status == "completed"
    assert any(note.startswith("weather: rouge1, rouge2, rougeL: 30 of 30 texts") for note in record.footnotes)
