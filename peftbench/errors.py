"""The errors that are said in one line, above all the one that is the user's to mend; how a wrong name is answered."""

import difflib
from collections.abc import Sequence


class ConfigError(Exception):
    """Something in the configuration or its inputs is wrong: one line that names the key and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


#: How the system, Python and C++ say that memory ran out, in whatever error or last line of a log.
OUT_OF_MEMORY = (
    "std::bad_alloc",
    "Cannot allocate memory",
    "failed to map segment from shared object",
    "can't start new thread",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is for want of memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY)


class Failed(Exception):
    """Something failed before any run that isn't the configuration's fault: one line, exit status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class NotApplicable(ConfigError):
    """A method that can't adapt this model or solve this task: in a sweep, a cell to leave out, not a mistake."""


def exact(name: str, allowed: Sequence[str]) -> str:
    """The one of the allowed names that a name is but for its case; where none or several are, the name itself."""
    if name in allowed:
        return name
    alike = [other for other in allowed if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else name


def brief(error: BaseException, most: int = 300) -> str:
    """The first line of what another library says, at most so many characters: some list all that they know."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return first if len(first) <= most else f"{first[:most]}..."


def nearest(name: str, allowed: Sequence[str]) -> str:
    """The end of a message about a name that isn't there: those like it, then all."""
    cased = {other.casefold(): other for other in allowed}
    close = [cased[c] for c in difflib.get_close_matches(name.casefold(), list(cased), n=3, cutoff=0.5)]
    return (f"nearest: {', '.join(close)}; " if close else "") + f"allowed: {', '.join(allowed)}"
