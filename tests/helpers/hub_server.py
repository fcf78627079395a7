"""The Hugging Face hub's HTTP interface on loopback, for repositories in folders: what huggingface_hub asks for to list
a repository and get its files. Large files are redirected to a signed address, as the hub does. Requests are counted.

A fault makes it answer otherwise: a status, "gated", "invalid" (a token), "cut" (half a file, then nothing) or "stall"
(half a file, and the connection stays).
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: What a signed address holds, and no message may.
SIGNATURE = "Signature-of-this-user"

#: Files that the hub keeps apart from the repository, under their SHA-256.
_LARGE = (".parquet", ".safetensors", ".bin")
#: How long a stalled connection is kept, at most.
_STALL_S = 20

_REFUSALS: dict[str, tuple[int, str, str]] = {
    "gated": (403, "GatedRepo", "Access to this is restricted"),
    "invalid": (401, "", "Invalid credentials in Authorization header"),
    "revision": (404, "RevisionNotFound", "Invalid rev id"),
    "repository": (401, "RepoNotFound", "Repository not found"),  # The hub says 401 to whoever isn't logged in.
    "entry": (404, "EntryNotFound", "Entry not found"),
}


@dataclass
class Fault:
    """What happens to requests whose address has `where` in it, the first `times` of them."""

    where: str
    what: int | str
    times: int = 1000
    method: str = ""


@dataclass
class Repository:
    """Commits by id, each a folder, and the names that stand for them."""

    commits: dict[str, Path] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, folder: Path, commit: str | None = None) -> str:
        """What `name` stands for from now on."""
        commit = commit or hashlib.sha1(str(folder).encode()).hexdigest()
        self.commits[commit], self.names[name] = folder, commit
        return commit


class Hub(ThreadingHTTPServer):
    """The repositories, by `datasets/<owner>/<name>` and `models/...`, and what was asked."""

    daemon_threads = True

    def __init__(self, handler: "type[Handler] | None" = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def elsewhere(self) -> str:
        """The same server by another name, as large files lie on another host."""
        return f"http://localhost:{self.server_address[1]}"

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def fault(self, method: str, path: str) -> int | str | None:
        for fault in self.faults:
            if fault.where in path and fault.times > 0 and method.startswith(fault.method):
                fault.times -= 1
                return fault.what
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""


@contextlib.contextmanager
def serving(hub: Hub | None = None) -> Iterator[Hub]:
    """A hub while it lasts."""
    hub = hub or Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join(10)


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    timeout = _STALL_S

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if token := self.headers.get("authorization"):
            self.server.tokens.add(token.removeprefix("Bearer "))
        path = unquote(urlsplit(self.path).path)
        fault = self.server.fault(self.command, path)
        if isinstance(fault, int):
            headers = {"Retry-After": "300"} if fault == 429 else {}
            return self.send(fault, b"trouble", headers)
        if fault in _REFUSALS:
            return self.refuse(str(fault))
        if path == "/":
            return self.send(200, b"")
        if path.startswith("/cdn/"):
            return self._large(path.removeprefix("/cdn/"), fault)
        if path.startswith("/api/"):
            return self._api(path.removeprefix("/api/"))
        return self._resolve(path.lstrip("/"), fault)

    def _api(self, path: str) -> None:
        if path.count("/") < 2:
            return self.refuse("entry")  # What the library asks for its statistics.
        kind, owner, name, *rest = path.split("/")
        what, revision = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
        found = self._commit(f"{kind}/{owner}/{name}", revision)
        if found is None:
            return
        commit, files = found
        if what == "tree":
            return self.json([_entry(path, file) for path, file in files.items()])
        self.json({"id": f"{owner}/{name}", "sha": commit, "siblings": [{"rfilename": path} for path in files]})

    def _commit(self, repository: str, revision: str) -> tuple[str, dict[str, Path]] | None:
        """A commit and its files; None: refused."""
        if repository not in self.server.repositories:
            self.refuse("repository")
            return None
        known = self.server.repositories[repository]
        commit = known.names.get(revision, revision)
        if commit not in known.commits:
            self.refuse("revision")
            return None
        folder = known.commits[commit]
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return commit, {file.relative_to(folder).as_posix(): file for file in files}

    def _resolve(self, path: str, fault: Any) -> None:
        repository, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        repository = repository if repository.startswith("datasets/") else f"models/{repository}"
        found = self._commit(repository, revision)
        if found is None:
            return
        commit, files = found
        if name not in files:
            return self.refuse("entry")
        body, entry = files[name].read_bytes(), _entry(name, files[name])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"'}
        if "lfs" in entry:
            linked = {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(len(body))}
            where = f"{self.server.elsewhere}/cdn/{entry['lfs']['oid']}?Signature={SIGNATURE}"
            return self.send(302, b"", {**headers, **linked, "Location": where})
        self._file(body, headers, fault)

    def _large(self, digest: str, fault: Any) -> None:
        for repository in self.server.repositories.values():
            for folder in repository.commits.values():
                for file in folder.rglob("*"):
                    if file.suffix in _LARGE and _sha256(file) == digest:
                        return self._file(file.read_bytes(), {"ETag": f'"{digest}"'}, fault)
        self.refuse("entry")

    def _file(self, body: bytes, headers: dict[str, str], fault: Any) -> None:
        start, whole = 0, len(body)
        if given := self.headers.get("range"):
            start = int(given.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        headers["Accept-Ranges"] = "bytes"
        if fault in ("cut", "stall") and self.command == "GET":
            return self._half(body[start:], max(0, whole // 2 - start), headers, fault)
        self.send(206 if start else 200, body[start:], headers)

    def _half(self, body: bytes, sent: int, headers: dict[str, str], fault: Any) -> None:
        self._head(206 if "Content-Range" in headers else 200, len(body), headers)
        self.wfile.write(body[:sent])
        self.wfile.flush()
        if fault == "stall":
            self.server.closing.wait(_STALL_S)
        self.close_connection = True

    def refuse(self, how: str) -> None:
        status, code, text = _REFUSALS[how]
        self.send(status, b"", {**({"X-Error-Code": code} if code else {}), "X-Error-Message": text})

    def json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _entry(path: str, file: Path) -> dict[str, Any]:
    """A file, as the hub lists it."""
    body = file.read_bytes()
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(body),
        "oid": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest(),
    }
    if file.suffix in _LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
    return entry
