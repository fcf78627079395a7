"""How long the hub is waited for, what is seen of it, and why it failed, in words."""

import contextlib
import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

#: How often one file, or one question, is tried without getting on.
_TRIES = 3
#: What huggingface_hub waits before it goes on with a file.
_PAUSE_S = 1
#: The longest wait that is granted to a hub that asks for patience.
_GRANTED_S = 10


class HubError(Exception):
    """The hub didn't give what was asked for: the reason in a few words, without the library's own text, which may hold
    addresses that are signed for this user. `about`: the field that is wrong, if it is one."""

    def __init__(self, why: str, about: str | None = None) -> None:
        super().__init__(why)
        self.about = about


class Patience:
    """Ends a download that doesn't get on. huggingface_hub tries again up to five times, and waits as long as it is
    told to: minutes. As its requests are seen on their way, the next one can be refused."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._tries: Counter[str] = Counter()
        self._status: int | None = None
        self._stopped = False
        self._sent, self._lock = dict[str, float](), threading.Lock()

    def before(self, request: Any) -> None:
        """Called with each request."""
        self._check()
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        timeouts = request.extensions.get("timeout") or {}
        request.extensions = {
            **request.extensions,
            "timeout": {name: timeouts.get(name) or limit for name, limit in limits.items()},
        }
        with self._lock:
            question, now = f"{request.method} {request.url}", time.monotonic()
            self._tries[question] += 1
            if self._tries[question] > _TRIES:
                raise HubError(self._why(now - self._sent[question] - _PAUSE_S))
            self._sent[question] = now

    def after(self, response: Any) -> None:
        """Called with each response, before it is read."""
        status = response.status_code
        if status == 429:
            wait = response.headers.get("retry-after", "")
            if not (wait.isdigit() and int(wait) <= _GRANTED_S):
                raise HubError(_BY_STATUS[429] + (f"; it asks to wait {wait} s" if wait.isdigit() else ""))
        self._status = status if status >= 400 else None

    def stop(self) -> None:
        """Let nothing further be asked for or received."""
        self._stopped = True

    def _check(self) -> None:
        if self._stopped:
            raise HubError("it was stopped")

    def moved(self) -> None:
        """Called when bytes have come that hadn't before."""
        self._check()
        with self._lock:
            self._tries.clear()

    def _why(self, waited: float) -> str:
        if self._status is not None:
            return _status(self._status)
        stalled = 2 * waited > self._timeout_s
        how = f"nothing came for {self._timeout_s:g} s" if stalled else "the connection was cut"
        return f"{how}, {_TRIES} times; what was whole is kept, and the same line goes on from there"


@contextlib.contextmanager
def patience() -> Iterator[Patience]:
    """Gives huggingface_hub's requests a time limit while entered."""
    from huggingface_hub import constants, get_session, set_client_factory

    patient = Patience(float(constants.HF_HUB_DOWNLOAD_TIMEOUT))
    client, hooks = type(get_session()), get_session().event_hooks

    def plain() -> Any:
        return client(event_hooks=hooks, follow_redirects=True, timeout=None)

    def watched() -> Any:
        both: dict[str, list[Callable[[Any], Any]]] = {
            "request": [*hooks["request"], patient.before],
            "response": [*hooks["response"], patient.after],
        }
        return client(event_hooks=both, follow_redirects=True, timeout=None)

    set_client_factory(watched)
    try:
        yield patient
    finally:
        set_client_factory(plain)


@contextlib.contextmanager
def progress(text: str, total: int, moved: Callable[[], None]) -> Iterator[Any]:
    """One bar for all files, or without a terminal one line; yields what huggingface_hub takes for tqdm's class.

    Args:
        total: bytes.
        moved: called when bytes have come that hadn't before.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not total:
        yield _counting(lambda done: None)
        return
    if not console.is_terminal:
        console.print(f"{text} ({filesize.decimal(total)})", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task, furthest = drawn.add_task(text, total=total), 0

        def show(done: int) -> None:
            nonlocal furthest
            if done > furthest:
                furthest = done
                moved()
            drawn.update(task, completed=done)

        yield _counting(show)


class _Bar(Protocol):
    def update(self, n: float | None = 1) -> None: ...


def _counting(show: Callable[[int], None]) -> type[_Bar]:
    """A class in tqdm's place that draws nothing: of its bars that count bytes the furthest is shown."""
    lock, bars = threading.Lock(), list[Any]()

    class Bar:
        def __init__(self, *args: Any, total: float | None = None, unit: str = "", **settings: Any) -> None:
            self.n, self.total, self.format_dict = 0.0, total, dict[str, Any]()
            if unit == "B":
                bars.append(self)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def update(self, n: float | None = 1) -> None:
            with lock:
                self.n += n or 0
                show(int(max((bar.n for bar in bars), default=0)))

        def refresh(self) -> None:
            pass

        close = refresh

        def set_description(self, *args: Any, **settings: Any) -> None:
            pass

        set_description_str = set_postfix_str = set_postfix = set_description

    return Bar


_BY_STATUS = {
    401: "the hub doesn't take the token (401): log in anew by `hf auth login`, or set another HF_TOKEN, or none",
    403: "the hub refuses it to this account (403): ask its owner for access, then `hf auth login`",
    404: "the hub doesn't have it (404)",
    429: "the hub has had too many requests (429): try again later, or log in by `hf auth login`, which allows more",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _status(status: int) -> str:
    return _BY_STATUS.get(status, f"the hub answers {status}: try again later")


def as_hub_error(error: BaseException) -> HubError:
    """An error of huggingface_hub, the network or the disk in words of our own, with the field that is wrong."""
    from huggingface_hub import errors

    if isinstance(error, HubError):
        return error
    about = "revision" if isinstance(error, errors.RevisionNotFoundError) else None
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        about = None if isinstance(error, errors.GatedRepoError) else "path"
    return HubError(_reason(error), about=about)


def _reason(error: BaseException) -> str:
    from huggingface_hub import errors

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for one in chain:
        if isinstance(one, HubError):
            return str(one)
        if isinstance(one, errors.GatedRepoError):
            return "it is gated: its owner asks for agreement on its page on the hub; then `hf auth login` or HF_TOKEN"
        if isinstance(one, errors.RevisionNotFoundError):
            return "the hub has no such revision of it (any more); allowed is a commit, a branch, or null for main"
        if isinstance(one, errors.RepositoryNotFoundError):
            return "the hub doesn't have it, or it is private: check the name, or log in by `hf auth login` or HF_TOKEN"
        if isinstance(one, errors.HfHubHTTPError):
            return _status(one.response.status_code)
        if isinstance(one, errors.HFValidationError):
            return "that is neither a name on the hub (owner/name) nor a folder"
        if isinstance(one, OSError) and one.errno in _FULL:
            return "the disk of the hub's cache is full; HF_HOME=DIR puts it elsewhere"
        if isinstance(one, OSError) and one.filename is not None:
            return (
                f"the hub's cache can't be written to ({one.strerror}: {one.filename}); HF_HOME=DIR puts it elsewhere"
            )
        if isinstance(one, OSError) and "Consistency check" in str(one):
            return "a file came by half; the same line gets it anew"
    return f"the connection to the hub failed ({type(chain[-1]).__name__})"
