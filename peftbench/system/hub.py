"""The Hugging Face hub, asked once and never waited for: a missing network must be said in seconds, not minutes."""

import functools
import os
import urllib.error
import urllib.request

_PROBE_S = 5.0
#: What switches of huggingface_hub are set to, in capitals, to be on.
YES = {"1", "ON", "YES", "TRUE"}


@functools.cache
def reachable() -> bool:
    """True if the hub answers. If not, this process and its children work from the local cache alone.

    Must be called before huggingface_hub is imported: it reads HF_HUB_OFFLINE at import, and without it every call
    retries for 23 to 46 s.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in YES:
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PROBE_S).close()
    except urllib.error.HTTPError:
        return True  # It answered, if only to refuse a HEAD request.
    except (OSError, ValueError):  # ValueError: an endpoint that is no address.
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
        return False
    return True


def is_commit(revision: str | None) -> bool:
    """True if a revision is a whole commit id, which can't come to mean something else."""
    return revision is not None and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)
