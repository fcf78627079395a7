"""The last layer at one position against the whole computation: answers, loss and every gradient, for every method that
may be computed so on every encoder."""

from collections.abc import Callable

import pytest

from peftbench.config import paths
from peftbench.errors import NotApplicable
from peftbench.models import one_position
from peftbench.run.prepared import PreparedRun
from peftbench.run.verify import problem_with
from tests.helpers.built import Built, shake
from tests.helpers.composed import trained
from tests.helpers.exactness import result, without_dropout

ENCODERS = ["tiny_bert", "tiny_roberta", "tiny_distilbert", "tiny_deberta", "tiny_modernbert"]
#: Methods whose last layer is computed whole on an encoder with a head: a prompt moves the token that the head reads,
#: and four look at all positions by themselves.
WHOLE = {"prompt", "prompt_text", "prompt_vocab", "p_tuning", "multitask_prompt", "cpt"} | {
    *("unipelt", "loreft", "lily", "lora_int8")
}
#: Not in 64 bits: peft's adapter multiplies 32-bit matrices alone.
IN_32_BITS = {"adamss"}
#: One of each kind on each architecture in the default run; the rest in the matrix.
QUICK = ["full", "lora", "houlsby", "prefix", "mam", "ia3"]


def test_the_cases_are_there() -> None:
    assert set(ENCODERS) <= set(paths.choices("model"))
    assert WHOLE | set(QUICK) <= set(trained())


def _cases() -> list:
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [
        pytest.param(method, model, id=f"{method}-{model}", marks=[] if method in QUICK else rest)
        for model in ENCODERS
        for method in trained()
    ]


@pytest.mark.parametrize(("method", "model"), _cases())
def test_it_equals_the_whole_computation(
    cell: Callable[..., PreparedRun], named: Callable[..., list[str]], record_property, method: str, model: str
) -> None:
    prepared = cell(*named(method, model))
    problem = problem_with(prepared.config, prepared.checkpoint)
    if problem is not None:
        return record_property("not_applicable", problem[0])
    try:
        case = Built(prepared)
    except NotApplicable as reason:
        return record_property("not_applicable", str(reason))
    exact = method not in IN_32_BITS
    shake(case.model.double() if exact else case.model, seed=1)
    if case.method.needs_all_positions(case.model):
        assert method in WHOLE
        return None
    assert method not in WHOLE
    case.model.eval()
    whole = result(case)
    assert one_position.install(case.model), "could have been narrow"
    narrow = result(case)
    worst = max(narrow.off(whole).items(), key=lambda item: item[1])
    assert worst[1] < (1e-7 if exact else 5e-6), worst  # A few round to 32 bits within.
    return None


@pytest.mark.parametrize("model", ENCODERS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_in_training_mode_and_under_autocast_it_is_as_exact_as_the_precision(
    cell: Callable[..., PreparedRun], method: str, model: str
) -> None:
    case = Built(cell(f"method={method}", f"model={model}"))
    shake(case.model, seed=1)
    without_dropout(case.model)
    whole, half = result(case), result(case, precision="bf16-mixed")
    assert one_position.install(case.model)
    assert max(result(case).off(whole).values()) < 2e-6
    # As far from it as rounding to 8 bits puts the whole computation under autocast.
    apart = result(case, precision="bf16-mixed").off(half)
    rounding = half.off(whole)
    assert 1e-4 < rounding["logits"], "autocast rounded nothing"
    assert max(apart.values()) < 2 * max(rounding.values()) < 0.5


@pytest.mark.parametrize("model", ENCODERS)
def test_in_64_bits_it_is_exact(cell: Callable[..., PreparedRun], model: str) -> None:
    case = Built(cell("method=full", f"model={model}"))
    shake(case.model.double(), seed=1)
    whole = result(case)
    assert one_position.install(case.model)
    assert max(result(case).off(whole).values()) < 1e-13
