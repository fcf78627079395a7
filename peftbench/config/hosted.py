"""The dataclass of a hosted model: its server, what it is asked, its job, its prices."""

import re
from dataclasses import dataclass, field
from typing import Any, Optional

from peftbench.config.fields import COUNT, sink
from peftbench.config.rules import Rule, between, one_of

#: The family of a model that is reached over a network alone: there are no weights here.
HOSTED = "hosted"

#: Without a name or a password, which would be a secret in a configuration.
_ADDRESS = Rule(
    lambda x: re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", x) is not None, "an address: https://host/v1"
)
#: What `system.redact` takes for a secret's name.
_VARIABLE = Rule(
    lambda x: re.fullmatch(r"([A-Z][A-Z0-9_]*_)?(KEY|TOKEN)", x) is not None,
    "the name of an environment variable that ends in KEY or TOKEN",
)
_PRICE = between(0, 1e9)


@dataclass(kw_only=True)
class HostedConfig:
    """A server of OpenAI's interface, a model there, and how it is asked. Where the server is, and how often it is
    asked at a time, decides no score: what it calls the model does. Prices stand beside the figure that they make."""

    model: Optional[str] = None
    base_url: Optional[str] = sink(None, rule=_ADDRESS)
    key_variable: str = sink("OPENAI_API_KEY", rule=_VARIABLE)
    consent: bool = sink(False)
    system: Optional[str] = None
    max_tokens: Optional[int] = field(default=None, metadata={"rule": COUNT})
    limit: str = field(
        default="max_completion_tokens", metadata={"rule": one_of("max_completion_tokens", "max_tokens")}
    )
    temperature: Optional[float] = field(default=None, metadata={"rule": between(0, 2)})
    hyperparameters: Optional[dict[str, Any]] = None
    concurrency: int = sink(4, rule=between(1, 256))
    retries: int = sink(5, rule=between(0, 100))
    timeout_s: float = sink(60.0, rule=between(0, 1e5, above=True))
    poll_s: float = sink(30.0, rule=between(0, 1e5, above=True))
    delete: str = sink("nothing", rule=one_of("nothing", "upload", "all"))
    price_train: Optional[float] = sink(None, rule=_PRICE)
    price_input: Optional[float] = sink(None, rule=_PRICE)
    price_output: Optional[float] = sink(None, rule=_PRICE)
    currency: Optional[str] = sink(None)
