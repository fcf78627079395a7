"""A server on loopback that speaks as much of OpenAI's interface as a hosted run asks for: files, jobs, chat. It
records every request and answers by a script: what it is paid for is counted in `jobs`.

`hold`: requests whose method and path begin so are done and then never answered (the moment between the server's doing
and its answer); `fail`: statuses that the next such requests are answered with, before anything is done.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The key that requests must bring, and no text of ours may hold.
KEY = "sk-of-nobody-1234567890abcdefghijklmnop"


@dataclass
class Call:
    """One request: method, path without its query, and the body (JSON, or the bytes of a form)."""

    method: str
    path: str
    body: Any


@dataclass
class Script:
    """How the server behaves, and what it was asked.

    Attributes:
        answer: from a request's messages to the answer's text; None: the request is refused as a bad one.
        polls: how often a job is asked for before it has succeeded, or ended as `ending` says.
    """

    answer: Callable[[list[dict[str, str]]], str | None] = lambda messages: "good"
    polls: int = 1
    ending: str = "succeeded"
    delay_s: float = 0.0
    hold: str | None = None
    fail: dict[str, list[int]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    most_at_once: int = 0
    held: int = 0

    def paths(self, method: str, path: str) -> list[Call]:
        """The requests of a kind so far."""
        return [call for call in self.calls if call.method == method and call.path.startswith(path)]


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other of a connection."""

    protocol_version = "HTTP/1.1"
    server: "HostedServer"

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        script, path = self.server.script, self.path.partition("?")[0]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = "json" in (self.headers.get("Content-Type") or "")
        body = json.loads(content) if content and is_json else content
        with self.server.lock:
            script.calls.append(Call(method, path, body))
            failing = next((codes for start, codes in script.fail.items() if f"{method} {path}".startswith(start)), [])
            status = failing.pop(0) if failing else None
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._reply(401, {"error": {"message": "Incorrect API key provided"}})
        elif status is not None:
            self._reply(status, {"error": {"message": f"scripted {status}"}})
        else:
            reply = self._done(method, path, body)
            if script.hold is not None and f"{method} {path}".startswith(script.hold):
                script.held += 1
                self.server.closing.wait(60)
                return
            self._reply(*reply)

    def _done(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/chat/completions":
            return self._chat(body)
        with self.server.lock:
            if path == "/v1/files" and method == "POST":
                return 200, self._uploaded(body)
            if path == "/v1/fine_tuning/jobs" and method == "POST":
                return 200, self._started(body)
            return self._rest(method, path)

    def _rest(self, method: str, path: str) -> tuple[int, Any]:
        script = self.server.script
        if method == "DELETE":
            script.deleted.append(path.rpartition("/")[2])
            return 200, {"id": script.deleted[-1], "object": "file", "deleted": True}
        if path == "/v1/files":
            return 200, {"object": "list", "has_more": False, "data": [_file(i, *f) for i, f in script.files.items()]}
        if path == "/v1/fine_tuning/jobs":
            return 200, {"object": "list", "has_more": False, "data": list(script.jobs.values())}
        job = script.jobs[path.rpartition("/")[2]]
        job["polled"] += 1
        if job["polled"] > script.polls and job["status"] == "running":
            ok = script.ending == "succeeded"
            tokens = sum(len(line) // 4 for line in script.files[job["training_file"]][1].splitlines())
            job |= {"status": script.ending, "finished_at": job["created_at"] + 7200}
            job |= (
                {"fine_tuned_model": f"ft:{job['model']}:{job['id']}", "trained_tokens": tokens}
                if ok
                else {"error": {"code": "bad", "message": "the file is bad", "param": None}}
            )
        return 200, job

    def _uploaded(self, form: bytes) -> dict[str, Any]:
        name = re.search(rb'filename="([^"]+)"', form)
        assert name is not None
        content = form.partition(name[0])[2].partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]
        script = self.server.script
        file = f"file-{len(script.files)}"
        script.files[file] = (name[1].decode(), content)
        return _file(file, *script.files[file])

    def _started(self, body: dict[str, Any]) -> dict[str, Any]:
        script = self.server.script
        job = f"ftjob-{len(script.jobs)}"
        script.jobs[job] = {
            "id": job, "object": "fine_tuning.job", "created_at": 1_700_000_000, "finished_at": None, "polled": 0,
            "status": "running", "fine_tuned_model": None, "trained_tokens": None, "error": None, "seed": body["seed"],
            "model": body["model"], "training_file": body["training_file"], "validation_file": None,
            "organization_id": "org", "result_files": [], "hyperparameters": body["hyperparameters"],
        }  # fmt: skip
        return script.jobs[job]

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        script, server = self.server.script, self.server
        with server.lock:
            server.at_once += 1
            script.most_at_once = max(script.most_at_once, server.at_once)
        time.sleep(script.delay_s)
        with server.lock:
            server.at_once -= 1
        text = script.answer(body["messages"])
        if text is None:
            return 400, {"error": {"message": "filtered"}}
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        message = {"role": "assistant", "content": text}
        return 200, {
            "id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }  # fmt: skip

    def _reply(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: requests are in the script."""


def _file(file: str, name: str, content: bytes) -> dict[str, Any]:
    return {
        "id": file, "object": "file", "bytes": len(content), "created_at": 1, "filename": name, "purpose": "fine-tune",
        "status": "processed",
    }  # fmt: skip


class HostedServer(ThreadingHTTPServer):
    """The server itself."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.lock, self.closing, self.at_once = script, threading.Lock(), threading.Event(), 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextlib.contextmanager
def serve(script: Script) -> Iterator[HostedServer]:
    """A server that runs within this."""
    server = HostedServer(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
