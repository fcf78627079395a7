"""The stand-in of the Hugging Face hub where it takes uploads: repositories are made, private or public, and files come
by commits, large ones beforehand by the LFS protocol. (The hub's other protocol for large files, Xet, has no stand-in:
HF_HUB_DISABLE_XET=1.)"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.hub_server import Handler, Hub

#: The only token that may write.
TOKEN = "hf_abcdefghij0123456789writes"
#: The only owner that it may write for.
OWNER = "someone"


class UploadHub(Hub):
    """A hub with room: commits are folders below `root`.

    Attributes:
        private: the names of private repositories (`models/<owner>/<name>`).
        blobs: large files by their SHA-256.
        subjects: of all commits.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(_Uploads)
        self.root = root
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.subjects: list[str] = []

    def make(self, name: str, *, private: bool) -> None:
        """An empty repository."""
        folder = self.root / "empty"
        folder.mkdir(exist_ok=True)
        self.repository(f"models/{name}").add("main", folder)
        if private:
            self.private.add(f"models/{name}")

    def files(self, name: str) -> dict[str, bytes]:
        """What a repository holds now."""
        repository = self.repositories[f"models/{name}"]
        folder = repository.commits[repository.names["main"]]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class _Uploads(Handler):
    server: UploadHub

    def answer(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api/")
        name = "/".join(path.split("/")[:3])
        if self.command == "GET" and name in self.server.private and not self._may_write():
            return self.refuse("repository")
        if self.command == "GET" and path == name and name in self.server.repositories:
            return self._described(name)
        super().answer()

    def _described(self, name: str) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        files = [{"rfilename": file} for file in sorted(self.server.files(name.removeprefix("models/")))]
        commit = self.server.repositories[name].names["main"]
        private = name in self.server.private
        self.json({"id": name.removeprefix("models/"), "sha": commit, "private": private, "siblings": files})

    def do_POST(self) -> None:
        body = self._body()
        self.server.requests.append(f"POST {self.path}")
        if isinstance(fault := self.server.fault("POST", self.path), int):
            return self.send(fault, b"trouble")
        if not self._may_write():
            return self.refuse("invalid")
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if self.path.startswith("/api/models/") and "/preupload/" in self.path:
            return self._modes(json.loads(body))
        if self.path.startswith("/api/models/") and "/commit/" in self.path:
            return self._take("/".join(self.path.split("/")[3:5]), [json.loads(line) for line in body.splitlines()])
        self.refuse("entry")

    def do_PUT(self) -> None:
        body = self._body()
        self.server.requests.append(f"PUT {self.path}")
        self.server.blobs[hashlib.sha256(body).hexdigest()] = body
        self.send(200, b"")

    def _body(self) -> bytes:
        if (length := self.headers.get("content-length")) is not None:
            return self.rfile.read(int(length))
        parts = []  # A commit is streamed, in chunks that say how long they are.
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _may_write(self) -> bool:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.server.tokens.add(token)
        return token == TOKEN

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != OWNER:
            return self.send(403, b"{}", {"X-Error-Message": "You don't have the rights to create a model there"})
        if f"models/{name}" in self.server.repositories:
            return self.send(409, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
        self.server.make(name, private=wanted.get("visibility") == "private")
        self.json({"url": f"{self.server.address}/{name}"})

    def _validate(self, card: str) -> None:
        """A card's head must be YAML, as the hub's documentation of model cards has it: names and lists of names."""
        head = yaml.safe_load(card.split("---")[1])
        wrong = [name for name, value in head.items() if not isinstance(value, str | list)]
        errors = [{"message": f'"{name}" must be a string or a list'} for name in wrong]
        self.send(400 if errors else 200, json.dumps({"errors": errors, "warnings": []}).encode())

    def _modes(self, wanted: dict[str, Any]) -> None:
        def mode(path: str) -> str:
            return "lfs" if path.endswith((".safetensors", ".bin")) else "regular"

        files = [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in wanted["files"]]
        self.json({"files": files})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self.json({"transfer": "basic", "objects": objects})

    def _take(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.files(name)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.subjects.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        folder = self.server.root / f"commit{len(self.server.subjects)}"
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        commit = self.server.repository(f"models/{name}").add("main", folder)
        self.json({"commitUrl": f"{self.server.address}/{name}/commit/{commit}", "commitOid": commit})
