"""The errors that are told apart by their class: the user's to mend, a run that diverged, one that was stopped."""

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
    "Failed to launch worker thread",
    "memory allocation of",  # Rust, in tokenizers.
    # Python's own modules, where an allocation failed within one and the MemoryError was lost.
    "error return without exception set",
    "returned NULL without setting an exception",
)


def out_of_memory(error: BaseException | None) -> bool:
    """True if an error, or one that it was raised for, is for want of memory."""
    while error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: BaseException | str) -> str:
    """The first line of what an error says, or its class where it says nothing, as MemoryError does."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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


class TooLong(ConfigError):
    """Texts that can't be cut to the maximum length.

    Attributes:
        count: of so many texts; `needed`: tokens of the longest, of which nothing can be cut any more.
    """

    def __init__(self, count: int, needed: int, *, total: int, max_length: int, where: str = "") -> None:
        self.count, self.needed, self.total, self.max_length = count, needed, total, max_length
        super().__init__(
            f"recipe.max_length={max_length}: what isn't cut alone takes up to {needed} tokens, in {count} of {total} "
            f"texts{where}; recipe.max_length={needed} fits"
        )

    @classmethod
    def of_all(cls, errors: Sequence["TooLong"], *, total: int | None = None, where: str = "") -> "TooLong":
        """Several as one; `total`: of how many texts, where that isn't the sum of theirs."""
        return cls(
            sum(error.count for error in errors),
            max(error.needed for error in errors),
            total=sum(error.total for error in errors) if total is None else total,
            max_length=errors[0].max_length,
            where=where,
        )


class Diverged(Exception):
    """The loss isn't finite any more."""


class Interrupted(Exception):
    """The run was asked to stop."""


class Pruned(Exception):
    """A trial was ended early, behind the others.

    Attributes:
        scores: its selection scores after so many examples.
    """

    def __init__(self, scores: list[tuple[int, float]]) -> None:
        self.scores = scores
        examples, score = scores[-1]
        super().__init__(f"ended after {examples} examples: its score {100 * score:.1f} is behind the earlier trials'")
