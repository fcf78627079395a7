"""What a hosted run costs at the prices that the user gave: by the tokens that the server counted; before it, about."""

from peftbench.config.hosted import HostedConfig
from peftbench.config.types import RunConfig
from peftbench.run.hosted import job
from peftbench.run.hosted.check import settings
from peftbench.run.hosted.rows import Rows, name

#: Bytes of English text that make a token, roughly; used for estimates alone, which say so.
_BYTES_A_TOKEN = 4


def price(hosted: HostedConfig, *, trained: int | None, asked: int, answered: int) -> float | None:
    """The price of so many tokens in `hosted.currency`; None where a price that it needs isn't given.

    Args:
        trained: tokens of the job; 0: there is none; None: the server doesn't say.
    """
    parts = [(trained, hosted.price_train), (asked, hosted.price_input), (answered, hosted.price_output)]
    if any(each is None and tokens != 0 for tokens, each in parts) or trained is None:
        return None
    return sum((tokens or 0) * (each or 0.0) for tokens, each in parts) / 1e6


def prices(hosted: HostedConfig) -> dict[str, float | None]:
    """The prices that were given, by their names in a record's `efficiency`: of a million tokens each."""
    return {f"hosted_price_{what}": getattr(hosted, f"price_{what}") for what in ("train", "input", "output")}


def footnote(method: str, hosted: HostedConfig, figures: dict[str, float | int | None]) -> list[str]:
    """The cost of a run in words, where its prices were given."""
    paid = figures["hosted_price"]
    if paid is None:
        return []
    currency = f" {hosted.currency}" if hosted.currency else ""
    each = ", ".join(f"{what} {value:g}" for what, value in prices(hosted).items() if value is not None)
    each = each.replace("hosted_price_", "")
    return [f"{method}: cost {paid:.4g}{currency} at the prices given for a million tokens ({each})"]


def foreseen(config: RunConfig, rows: Rows, max_tokens: int) -> list[str]:
    """Lines that say what would be sent, and what it may cost."""
    hosted, questions = settings(config), rows.questions
    file, epochs = len(job.content(rows.training)), config.recipe.epochs
    asked = sum(len(name(chat).encode()) for chat in questions)
    lines = [f"would send to {hosted.base_url}, for the model {hosted.model}:"]
    if rows.training:
        lines.append(
            f"  a training file of {len(rows.training)} rows ({file} bytes), trained on for {epochs} "
            f"epoch{'s' * (epochs != 1)}: about {_tokens(file) * epochs} tokens"
        )
    lines.append(
        f"  {len(questions)} questions ({asked} bytes): about {_tokens(asked)} tokens, answered by at most "
        f"{len(questions) * max_tokens}"
    )
    cost = price(hosted, trained=_tokens(file) * epochs, asked=_tokens(asked), answered=len(questions) * max_tokens)
    currency = f" {hosted.currency}" if hosted.currency else ""
    at = "hosted.price_train, price_input and price_output say what that costs; they aren't given"
    lines.append(f"  {at}" if cost is None else f"  about {cost:.2f}{currency} at the prices given (4 bytes a token)")
    return lines


def _tokens(size: int) -> int:
    return -(-size // _BYTES_A_TOKEN)
