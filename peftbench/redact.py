"""Keys and tokens never reach a log, a record or a report: their values are replaced wherever text goes to a file."""

import functools
import os
import re
import urllib.parse
from pathlib import Path

#: Variables whose value is a secret, by their names' words.
_SECRET = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:$|_)", re.IGNORECASE)
#: Shorter values are words that a text may hold anyway (`TOKENIZERS_KEY=1`).
_SHORTEST = 8
#: A name and password in an address.
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)")
_INSTEAD = "***"


def redact(text: str) -> str:
    """The text without any secret of this process's environment, as it is or as an address writes it."""
    for secret in secrets():
        text = text.replace(secret, _INSTEAD)
    return _IN_ADDRESS.sub(_INSTEAD, text)


def secrets() -> list[str]:
    """What must not be written, the longest first."""
    values = {value.strip() for name, value in os.environ.items() if _SECRET.search(name)}
    values |= {_saved_token()}
    kept = {value for value in values if len(value) >= _SHORTEST}
    kept |= {urllib.parse.quote(value, safe="") for value in kept}
    return sorted(kept, key=len, reverse=True)


def _saved_token() -> str:
    """The token that `hf auth login` left in a file."""
    home = os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    return _text(os.environ.get("HF_TOKEN_PATH", f"{home}/token"))


@functools.cache
def _text(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except (OSError, ValueError):
        return ""
